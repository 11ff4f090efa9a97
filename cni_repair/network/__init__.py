"""The kernel: observe, plan (pure), apply, namespaces, uplinks."""
