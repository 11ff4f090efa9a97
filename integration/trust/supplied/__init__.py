"""What is installed on a node: what the lock pins, as it was when it was locked."""

from integration.trust.supplied.proof import NAME, WHAT, prove

__all__ = ["NAME", "WHAT", "prove"]
