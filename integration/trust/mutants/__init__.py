"""Small changes of the code that decides: a unit test fails for each, or it is said why not."""

from integration.trust.mutants.proof import NAME, WHAT, prove

__all__ = ["NAME", "WHAT", "prove"]
