"""How reports look: one screen on a terminal, plain lines in a pipe, JSON for scripts."""

from __future__ import annotations

import sys

from cni_repair.cli.printable import printable
from cni_repair.node.report import Report, document, summary
from cni_repair.strictjson import dumps

_COLUMNS = ("STATE", "POD", "CONTAINER", "IFNAME", "MASTER", "ADDRESSES")
_ADVICE = {
    "lost": "cni-repair plan shows what a repair would do; cni-repair repair --all does it",
    "degraded": "cni-repair repair --all puts back what is missing, and touches nothing else",
    "stale": "never repaired; the runtime's DEL or GC of the old pod removes the record",
    "foreign": "never touched; look inside with: nsenter --net=NETNS ip -d link (NETNS: -o json)",
    "unreadable": "cannot be repaired from this file; restore it, or delete the pod",
}
_COLOURS = {"healthy": "green", "lost": "red", "degraded": "yellow"}


def json(reports: list[Report], cni_version: str) -> None:
    """The same document that the REPAIR verb prints."""
    print(dumps(document(reports, cni_version)))


def table(reports: list[Report], directory: str, everything: bool) -> None:
    """Damaged attachments, each with its reason; healthy ones only if `everything` is asked for."""
    shown = [report for report in reports if everything or not report.healthy]
    if shown and sys.stdout.isatty():
        _rich_table(shown)
    elif shown:
        _plain_table(shown)
    print(_totals(reports, directory))
    for state, advice in _ADVICE.items():
        if any(report.state == state for report in reports):
            print(f"{state}: {advice}")


def commands(reports: list[Report], directory: str) -> None:
    """A shell script that does what a repair would; nothing to do is a comment."""
    for report in reports:
        if not report.healthy:
            print(f"# {_title(report)}: {report.state}: {_one_line(report.reason)}")
        for action in report.actions:
            print(printable(action))
    print(f"# {_totals(reports, directory)}")


def repaired(reports: list[Report], directory: str) -> None:
    """What was done and what is left, a line an attachment; healthy ones are only counted."""
    for report in reports:
        if report.actions or not report.healthy:
            state = "repaired" if report.healthy else report.state
            reason = f": {_one_line(report.reason)}" if report.reason else ""
            print(f"{state:10} {_title(report)} ({_steps(report)}){reason}")
    print(_totals(reports, directory))


def _steps(report: Report) -> str:
    count = len(report.actions)
    return f"{count} step{'' if count == 1 else 's'}" if count else "nothing done"


def _title(report: Report) -> str:
    parts = (report.pod, report.key.container_id[:12], report.key.ifname)
    return _one_line(" ".join(part for part in parts if part))


def _totals(reports: list[Report], directory: str) -> str:
    counts = summary(reports)
    if not reports:
        return f"no attachments in {directory}"
    states = ", ".join(
        f"{count} {state}"
        for state, count in counts.items()
        if count and state not in ("attachments", "failed")
    )
    plural = "" if len(reports) == 1 else "s"
    return f"{len(reports)} attachment{plural}: {states}"


def _row(report: Report) -> tuple[str, ...]:
    checkpoint = report.checkpoint
    master = checkpoint.attachment.parents[0].name if checkpoint else "?"
    addresses = [a.address for a in checkpoint.attachment.addresses] if checkpoint else ["?"]
    cells = (
        report.state,
        report.pod or "-",
        report.key.container_id[:12],
        report.key.ifname,
        master,
        " ".join(addresses),
    )
    return tuple(_one_line(cell) for cell in cells)


def _plain_table(reports: list[Report]) -> None:
    rows = [_COLUMNS, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row, report in zip(rows, [None, *reports]):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        if report is not None and not report.healthy:
            print(f"    {_one_line(report.reason)}")


def _rich_table(reports: list[Report]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        grid.add_column(column, overflow="fold")
    console = Console(highlight=False)
    for report in reports:
        colour = _COLOURS.get(report.state, "magenta")
        state, *rest = _row(report)
        grid.add_row(Text(state, style=colour), *(Text(cell) for cell in rest))
    console.print(grid)
    for report in reports:
        if not report.healthy:
            console.print(Text(f"{_title(report)}: {_one_line(report.reason)}"))


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
