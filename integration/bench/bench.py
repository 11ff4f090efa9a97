"""The command: options, and what is told of the figures in the end."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from integration.bench import aims, names
from integration.bench.chart import chart
from integration.bench.errors import PeerError
from integration.bench.figures import Figures, table
from integration.bench.parts import BY_NAME_ONLY, PARTS, QUICK, Bench, Scale
from integration.bench.peers import all_peers
from integration.command import CHECKOUT, run_rig
from integration.product import install

_NAME = "integration/bench/run"

_ABOUT = """\
Measure what cni-repair costs, against others that do the same, in the same run
and in turns: whole processes, start-up included, installed as on a node, on a
throwaway node in namespaces of its own. IPv4 only where no part says otherwise;
without duplicate address detection, which is a wait, not a cost. Every repair is checked: a
peer that restored less fails the run. Takes less than 10 minutes."""

_MORE = """\
parts:
  add-del       ADD and DEL, against the bare macvlan plugin
  parallel      8 of them at once
  repair        repair of 1 to 2,000 lost pods, against shell, ip -batch,
                pyroute2 and a C program that does the least there is to do
  armed         the same, prepared: by the index that a snapshot leaves, and by
                a process that waits (200 and 2,000 pods)
  nothing-lost  repair where nothing is lost
  status        status where nothing is lost
  ten           repair of 10 lost pods of 500
  ipv6          repair of 1 and 200 lost pods that have IPv6, too; a pod's first
                replies, with duplicate address detection
  hostile       status and repair of a pod that has 200,000 routes
  start         (only where it is named) the program's start in each form: install.sh,
                .deb, bundle; against the bare macvlan plugin

Exit status: 0 measured, 1 a peer failed or restored less, 2 cannot run here.
Nothing else should run meanwhile. Needs gcc, and pyroute2 (which tests/run
brings); peers whose means are missing are left out, and named."""

_LEGEND = (
    "LOWER and UPPER: quartiles; CPU: median of the processor's time, children included;\n"
    "MB: peak memory, the most of all runs; less than that of the small Python which starts them"
    " cannot be seen"
)


def main() -> int:
    options = _parse()
    return run_rig(_NAME, lambda: _measure(options))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="NAME", help="most parts where none is named")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs there, too")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw time against pods (SVG)")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, few pods: to see whether it works"
    )
    parser.add_argument(
        "--source",
        type=Path,
        default=CHECKOUT,
        help="the checkout whose cni-repair is measured (default: own)",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="another checkout, whose cni-repair is measured in turns with this one",
    )
    options = parser.parse_args()
    known = (*PARTS, *BY_NAME_ONLY)
    if unknown := [name for name in options.parts if name not in known]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(known)}")
    for file in filter(None, (options.json, options.chart)):
        if not os.access(file.absolute().parent, os.W_OK):  # said now, not in ten minutes
            parser.error(f"{file}: no directory that can be written to")
    return options


def _measure(options: argparse.Namespace) -> int:
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {what}", file=sys.stderr, flush=True)

    figures = Figures()
    machine = _machine()
    notes: list[str] = []
    scale = QUICK if options.quick else Scale()
    # Not in /run, which a node has for itself.
    with tempfile.TemporaryDirectory(prefix="cni-repair-bench-", dir="/var/tmp") as name:
        tell("installing cni-repair")
        launcher, earlier = _installed(options, Path(name))
        try:
            peers = all_peers(Path(name), scale.shell_most, notes.append, earlier)
            bench = Bench(
                launcher, peers, scale, figures, tell, notes.append, earlier, options.source
            )
            bench.run(options.parts or PARTS)
        except PeerError as error:
            print(f"{_NAME}: {error}", file=sys.stderr)
            return 1
    print("\n".join([machine, *notes, *_tables(figures)]))
    print(f"\n{time.monotonic() - began:.0f} s in all")
    if options.json:
        options.json.write_text(_document(machine, notes, figures))
    if options.chart:
        _draw(options.chart, figures)
    return 0


def _installed(options: argparse.Namespace, directory: Path) -> tuple[Path, Path | None]:
    """The launcher that is measured, and that of the checkout that it is compared with."""
    launcher = install(options.source.resolve(), directory)
    if options.against is None:
        return launcher, None
    return launcher, install(options.against.resolve(), directory / "before")


def _machine() -> str:
    return (
        f"Linux {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before,"
        f" Python {platform.python_version()}; times in milliseconds"
    )


def _tables(figures: Figures) -> list[str]:
    lines = ["", *table(figures.all()), _LEGEND, "", *aims.aims_table(figures)]
    for more in (aims.comparison_table(figures), aims.noise_table(figures)):
        lines += ["", *more] if more[1:] else []
    return lines


def _document(machine: str, notes: list[str], figures: Figures) -> str:
    document = {
        "machine": machine,
        "notes": notes,
        "figures": [figure.document() for figure in figures.all()],
        "aims": [verdict.document() for verdict in aims.verdicts(figures)],
    }
    return json.dumps(document, indent=1) + "\n"


def _draw(file: Path, figures: Figures) -> None:
    shown = [
        figure
        for figure in figures.all()
        if figure.what == names.REPAIR and figure.peer == names.first(figure.peer)
    ]
    if shown:
        file.write_text(chart("Repair of lost pods, whole process (median)", shown))
    else:
        print(f"{_NAME}: no chart without the part repair", file=sys.stderr)
