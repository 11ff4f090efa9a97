"""All proofs: the modules of this package, in the order in which they are carried out."""

from __future__ import annotations

PROOFS: tuple[str, ...] = (
    "killed",
    "refused",
    "fed",
    "crowded",
    "long",
    "power",
    "supplied",
    "lied_to",
    "mutants",
)
