"""`status`: which attachments are damaged, and why."""

from __future__ import annotations

from cni_repair.cli import render
from cni_repair.cli.scope import examined, scope_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Print the state of the attachments; 0 if all are healthy."""
    scope = scope_of(options)
    reports = examined(scope)
    if scope.json:
        render.json(reports)
    else:
        render.table(reports, scope, options.all)
    return render.status_of(reports)
