"""The proof that nothing is lost, and nothing stays, whenever cni-repair is killed."""

from integration.trust.killed.cases import NAME, WHAT, prove

__all__ = ["NAME", "WHAT", "prove"]
