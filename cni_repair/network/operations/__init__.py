"""What all steps of a repair have in common, and the `ip` commands that they equal. Pure."""
