"""The daemon that heals by itself: `cni-repair watch`."""
