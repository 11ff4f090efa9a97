"""What reaches a node by install.sh is what was locked, is told there, and is not known to be bad.

A case is one requirement of the lock: `lock NAME`, its form; `swap NAME`, another file of its name
and version, which pip must refuse; with --full `bill NAME`, that what stands in the bill of
materials is pinned; `schema`, the bill's form, by CycloneDX's own validator; and `audit NAME`, by
pip-audit. What the network does not give is left out, and told among the figures.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from integration.trust.proof import Extent, Failure, Outcome
from integration.trust.supplied.lock import Pin, pins
from integration.trust.supplied.outside import Tools, Unreachable, environment, installed, refuses

NAME = "supplied"
WHAT = "other files than the locked ones are offered; what is installed is looked at"

_SWAPPED_IN_A_SAMPLE = 1  # each is a run of pip's
_ONLY_FULL = "left out: only with --full"


@dataclass
class _Ledger:
    """What was tried, and what came of it."""

    only: str | None  # the one case that is asked for
    tried: int = 0
    failures: list[Failure] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    def wants(self, case: str) -> bool:
        return self.only in (None, case)

    def take(self, case: str, look: Callable[[], str]) -> None:
        """Carry out a case; what `look` says is what was seen instead."""
        if self.wants(case):
            self.tried += 1
            if saw := look():
                self.failures.append(Failure(case, saw))

    @contextmanager
    def from_the_network(self, figure: str) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            self.figures[figure] = f"left out: {error}"


def prove(extent: Extent) -> Outcome:
    """Carry it out."""
    ledger = _Ledger(extent.case)
    locked = pins()
    for pin in locked:
        ledger.take(_named("lock", pin), partial(str, pin.trouble))
    with tempfile.TemporaryDirectory(prefix="cni-repair-supplied-") as directory:
        base = Path(directory)
        _swap(ledger, locked, extent, base)
        if extent.full or extent.case:
            _install(ledger, locked, base)
        else:
            ledger.figures |= {"installed": _ONLY_FULL, "audit": _ONLY_FULL}
    return Outcome(ledger.tried, tuple(ledger.failures), tuple(ledger.figures.items()))


def _named(what: str, pin: Pin) -> str:
    return f"{what} {pin.name}=={pin.version}"


def _swap(ledger: _Ledger, locked: list[Pin], extent: Extent, base: Path) -> None:
    chosen = locked
    if not (extent.full or extent.case):
        chosen = random.Random(extent.seed).sample(locked, _SWAPPED_IN_A_SAMPLE)
    chosen = [pin for pin in chosen if ledger.wants(_named("swap", pin))]
    if not chosen:
        return
    python = environment(base / "pip")
    for number, pin in enumerate(chosen):
        place = base / f"swapped-{number}"
        ledger.take(_named("swap", pin), partial(refuses, python, pin, place))


def _install(ledger: _Ledger, locked: list[Pin], base: Path) -> None:
    with ledger.from_the_network("installed"):
        bill = installed(base / "node")
        _look_at(ledger, bill, locked)
        with ledger.from_the_network("schema"):
            tools = Tools(base / "tools")
            ledger.take("schema", lambda: tools.validate(bill))
            with ledger.from_the_network("audit"):
                _audit(ledger, tools, locked)


def _look_at(ledger: _Ledger, bill: dict[str, Any], locked: list[Pin]) -> None:
    """All that is there is pinned; all of it but what builds."""
    pinned = {(pin.name, pin.version) for pin in locked}
    there = [(one["name"], one["version"]) for one in bill["components"] if "purl" in one]
    ledger.figures["installed"] = f"{len(there)} packages"
    for name, version in there:
        seen = "" if (name, version) in pinned else "the lock does not pin it"
        ledger.take(f"bill {name}=={version}", partial(str, seen))


def _audit(ledger: _Ledger, tools: Tools, locked: list[Pin]) -> None:
    bad, known = tools.audit()
    ledger.figures["audit"] = f"{known} of {len(locked)} packages looked up"
    for pin in locked:
        ids = " ".join(bad.get(pin.name, []))
        seen = f"known vulnerabilities: {ids}" if ids else ""
        ledger.take(_named("audit", pin), partial(str, seen))
