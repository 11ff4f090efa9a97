"""`status`: which attachments are damaged, and why; which pods have no record."""

from __future__ import annotations

from cni_repair.cli import render
from cni_repair.cli.common import DAMAGED
from cni_repair.cli.coverage import shown, uncovered_beside
from cni_repair.cli.printable import say
from cni_repair.cli.scope import examined, scope_of
from cni_repair.cli.watch import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Print the state of the attachments; 0 if no living pod lacks anything."""
    scope = scope_of(options)
    reports = examined(scope)
    bare = uncovered_beside(scope, reports)
    if scope.json:
        render.json(reports, bare)
    else:
        render.table(reports, scope, options.all, shown(bare, scope, "status"))
        if scope.whole_node:
            for line in beside.lines(scope.run_dir):
                say(line)
    return DAMAGED if bare.failed else render.status_of(reports)
