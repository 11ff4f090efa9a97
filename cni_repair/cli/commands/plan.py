"""`plan`: the commands that a repair would equal."""

from __future__ import annotations

from cni_repair.cli import render
from cni_repair.cli.scope import examined, scope_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Print the commands; 0 if there is nothing to repair."""
    scope = scope_of(options)
    reports = examined(scope, getattr(options, "force", False))  # of `repair --dry-run`
    if scope.json:
        render.json(reports)
    else:
        render.commands(reports, scope)
    return render.status_of(reports)
