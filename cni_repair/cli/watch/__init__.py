"""The screens of `cni-repair watch`."""
