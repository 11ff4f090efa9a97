"""`demo`: a repair on a throwaway node."""

from __future__ import annotations

from cni_repair.demo import story

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Play it; 0 if all went as it should."""
    return story.run(html=options.html)
