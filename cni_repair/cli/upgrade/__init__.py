"""How `upgrade` is begun, followed and shown."""
