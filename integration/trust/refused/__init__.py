"""Refused: every system call that makes, changes, opens or reads something fails once."""

from integration.trust.refused.proof import NAME, WHAT, prove

__all__ = ["NAME", "WHAT", "prove"]
