"""Putting cni-repair where a runtime finds it: which directory that is, and how it gets there."""
