"""Lied to: pods that do in their own namespaces all that root can do there."""

from integration.trust.lied_to.proof import NAME, WHAT, prove

__all__ = ["NAME", "WHAT", "prove"]
