"""The host's side: prepares the guest, installs cni-repair for it, and prints what came of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from integration.command import CHECKOUT, add_options, conclude, print_each, run_rig
from integration.containerd import runtime
from integration.driver import pods, program
from integration.driver.evidence import Evidence
from integration.driver.guest import Guest
from integration.driver.kernel import Kernel, prepare
from integration.driver.outage import Outage, Run, to_json
from integration.driver.outagechart import chart
from integration.driver.report import DRIVER, Outcome, print_title
from integration.driver.scenarios import AGAINST_PODS, MEASURED, PLOTTED, SCENARIOS
from integration.product import install

# From one check to the next. Emulated, on a machine that has other work to do: generous. The guest
# gives up before.
SILENCE_SECONDS = 1000.0
_POLL_SECONDS = 0.1

_NAME = "integration/driver/run"
_PLOT, _PODS_PLOT = "integration/driver/outage", "integration/driver/pods"
_MACHINE = "The machine, with its NIC, is emulated in software (QEMU without KVM)"


def main() -> int:
    """Run the rig; 0 if all that was checked holds, 1 if not, 2 where it cannot run."""
    options = _parse()
    return run_rig(_NAME, lambda: _run(options))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Reload a real NIC driver under pods, in a virtual machine with a stock kernel."
        " Touches no link of this machine; keeps its downloads in /var/cache/cni-repair-tests.",
        epilog="scenarios: " + ", ".join(SCENARIOS) + "; only where named: " + ", ".join(MEASURED),
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all where none is named")
    parser.add_argument(
        "--guests",
        type=int,
        choices=range(1, 9),
        metavar="N",
        default=min(2, os.cpu_count() or 1),
        help="virtual machines side by side; each keeps a core busy (default: %(default)s)",
    )
    parser.add_argument(
        "--plot",
        action="store_true",
        help="instead of the scenarios: measure what pods lose by a reload without and with a"
        " repair, one after the other in one guest, and how long a repair of more and more pods"
        f" takes; write {_PLOT}.json and .svg, {_PODS_PLOT}.json and .svg",
    )
    add_options(parser)
    options = parser.parse_args()
    if options.plot and options.scenarios:
        parser.error("--plot has scenarios of its own")
    known = [*SCENARIOS, *MEASURED]
    if unknown := [name for name in options.scenarios if name not in known]:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    evidence = Evidence("cni-repair-driver", options.evidence)
    names = list(PLOTTED if options.plot else dict.fromkeys(options.scenarios or SCENARIOS))
    guests = 1 if options.plot else options.guests  # two would slow each other down
    kernel = prepare()
    runtime.prepare()
    with program.work_directory("driver") as directory:
        launcher = install(options.source.resolve(), directory)
        command = program.command(
            program.copied(CHECKOUT, directory), "integration.driver.inside", str(launcher)
        )
        set_up = time.monotonic() - began
        if not options.json:
            print_title(kernel.release, set_up)
        running = run_scenarios(kernel, directory, command, names, guests)
        with contextlib.closing(running) as coming:
            outcomes = print_each(_in_turn(names, coming), options, evidence)
    status = conclude(outcomes, options, evidence, began)
    if options.plot and status == 0:
        _draw(kernel.release, {one.scenario: one.measured for one in outcomes})
    return status


def _draw(kernel: str, measured: dict[str, dict[str, Any]]) -> None:
    """Write what was measured, and charts of just that."""
    sizes = measured.pop(AGAINST_PODS)["sizes"]
    outage = Outage(kernel, DRIVER, _MACHINE, [Run(**one) for one in measured.values()])
    _write(_PLOT, to_json(outage), chart(outage))
    document = pods.to_json({"kernel": kernel, "driver": DRIVER, "machine": _MACHINE}, sizes)
    _write(_PODS_PLOT, document, pods.drawn(document))


def _write(name: str, document: str, picture: str) -> None:
    for suffix, content in ((".json", document), (".svg", picture)):
        file = (CHECKOUT / name).with_suffix(suffix)
        file.write_text(content, "utf-8")
        print(f"written: {file}", file=sys.stderr)


def run_scenarios(
    kernel: Kernel, directory: Path, command: list[str], names: list[str], guests: int
) -> Generator[Outcome, None, None]:
    """The outcome of each scenario, as it comes, from `guests` virtual machines side by side."""
    waiting = deque(names)
    with contextlib.ExitStack() as stack:
        at_work = [
            stack.enter_context(
                contextlib.closing(_serve(kernel, directory / f"guest{number}", command, waiting))
            )
            for number in range(min(guests, len(names)))
        ]
        while at_work:
            for guest in [*at_work]:
                try:
                    outcome = next(guest)
                except StopIteration:
                    at_work.remove(guest)
                else:
                    if outcome:
                        yield outcome
            time.sleep(_POLL_SECONDS)


def _serve(
    kernel: Kernel, directory: Path, command: list[str], waiting: deque[str]
) -> Generator[Outcome | None, None, None]:
    """Have a guest take scenarios from `waiting`; their outcomes, and None while there is none.

    A guest serves one after the other, unless it hangs: then it is killed, and another follows.
    """
    while waiting:
        with Guest(kernel, directory, command) as guest:
            current, served, heard = "", False, time.monotonic()
            while True:
                running = guest.running  # asked before: what it tells last is not missed
                for event in guest.told():
                    heard = time.monotonic()
                    kind = event.pop("event")
                    if kind == "end":
                        current = ""
                        yield _with_console(Outcome(**event), guest)
                    elif kind == "ready":
                        current, served = (waiting.popleft() if waiting else ""), True
                        guest.give(current)
                if not running or time.monotonic() - heard >= SILENCE_SECONDS:
                    break
                yield None
            if not served and waiting:  # it did not even boot
                current = waiting.popleft()
            if current:
                yield _cut_short(current, guest)
        shutil.rmtree(directory)


def _in_turn(names: list[str], outcomes: Iterable[Outcome]) -> Generator[Outcome, None, None]:
    """The outcomes in the order of `names`, each as soon as those before it are there."""
    waiting, early = deque(names), dict[str, Outcome]()
    for outcome in outcomes:
        early[outcome.scenario] = outcome
        while waiting and waiting[0] in early:
            yield early.pop(waiting.popleft())


def _with_console(outcome: Outcome, guest: Guest) -> Outcome:
    if not outcome.holds:
        outcome.evidence["console"] = guest.console
    return outcome


def _cut_short(scenario: str, guest: Guest) -> Outcome:
    why = f"silent for {SILENCE_SECONDS:g} s" if guest.running else "the guest ended"
    check: dict[str, Any] = {"what": "runs to its end", "holds": False, "detail": why}
    return _with_console(Outcome(scenario, [check], 0.0, "", ""), guest)
