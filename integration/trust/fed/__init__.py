"""The proof `fed`: whatever cni-repair reads, fed with what nobody meant.

Inputs are made of a corpus (../corpus), the same ones for the same seed. Each reader may raise the
exception that it declares and no other, takes no more than half a second, and accepts no document
that Go's decoder refuses, or reads otherwise. `--full` has coverage guide a fuzzer, too (guided).
"""

from __future__ import annotations

import base64
import multiprocessing
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from integration.errors import RigError
from integration.trust.fed import golang, guided
from integration.trust.fed.feeding import READERS, Fault, Tally, feed, interrupted_where_it_hangs
from integration.trust.fed.minimise import faults_of, minimised
from integration.trust.proof import Extent, Failure, Outcome

NAME = "fed"
WHAT = (
    "every reader fed with mutated inputs: configurations, records, caches, plans, netlink, CNI_*"
)

_SAMPLE = 25_000  # inputs
_FULL = 10_000_000
_GUIDED = 500_000  # besides, of --full
_ROUND = 1  # times each reader's share
_AFTERWARDS = 3.0  # seconds that minimising may take of a sample's
_NOT_YET = float("inf")


def prove(extent: Extent) -> Outcome:
    program, why_no_go = _go_program()
    if extent.case:
        return _play(extent.case, program)
    start = time.monotonic()
    until = _NOT_YET if extent.full else start + extent.seconds - _AFTERWARDS
    tallies = {name: Tally() for name in READERS}
    for name, tally in _fed(_FULL if extent.full else _SAMPLE, extent.seed, until, program):
        tallies[name].add(tally)
    why_not_guided = _feed_guided(tallies, extent.seed) if extent.full else "only with --full"
    seconds = time.monotonic() - start
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    faults = [fault for tally in tallies.values() for fault in tally.faults.values()]
    with _go(program) as go:
        failures = [_failure(minimised(fault, go)) for fault in faults]
    by_reader = "; ".join(f"{name} {tally.tried:,}" for name, tally in tallies.items())
    figures = (
        ("rate", f"{total.tried / seconds:,.0f} inputs a second"),
        ("accepted", f"{total.accepted:,}"),
        ("slowest", f"{total.slowest * 1000:.0f} ms of processor time"),
        ("differential", why_no_go or f"{total.asked:,} accepted documents read by Go, too"),
        ("guided by coverage", why_not_guided or f"{_GUIDED:,} inputs of these, by atheris"),
        ("inputs", by_reader),
    )
    return Outcome(total.tried, tuple(failures), figures)


def _go_program() -> tuple[Path | None, str]:
    """The Go program's path; or why there is none."""
    try:
        return golang.program(), ""
    except RigError as error:
        return None, f"left out: {error}"


@contextmanager
def _go(program: Path | None) -> Iterator[golang.Go | None]:
    if not program:
        yield None
        return
    with golang.Go(program) as go:
        yield go


def _processors() -> int:
    return min(len(os.sched_getaffinity(0)), 8)


def _fed(inputs: int, seed: int, until: float, program: Path | None) -> Iterable[tuple[str, Tally]]:
    """The tallies of parts of the inputs, of all readers by turns."""
    of_a_round = sum(reader.share for reader in READERS.values()) * _ROUND
    rounds = max(1, -(-inputs // of_a_round))
    parts = [(name, seed, part, until) for part in range(rounds) for name in READERS]
    with ProcessPoolExecutor(
        _processors(),
        multiprocessing.get_context("fork"),
        _begin,
        (program,),
    ) as pool:
        yield from pool.map(_feed, parts)


_of_this_process: list[golang.Go | None] = [None]


def _begin(program: Path | None) -> None:
    _of_this_process[0] = golang.Go(program) if program else None


def _feed(part: tuple[str, int, int, float]) -> tuple[str, Tally]:
    name, seed, number, until = part
    count = READERS[name].share * _ROUND
    return name, feed(name, seed, number, count, until, _of_this_process[0])


def _feed_guided(tallies: dict[str, Tally], seed: int) -> str:
    """Add what coverage finds; why it cannot be done here, or empty."""
    try:
        tree = guided.prepare()
    except RigError as error:
        return f"left out: {error}"
    shares = {name: reader.share for name, reader in READERS.items()}
    whole = sum(shares.values())
    with ThreadPoolExecutor(_processors()) as pool:
        running = {
            name: pool.submit(guided.guided, tree, name, seed, _GUIDED * share // whole)
            for name, share in shares.items()
        }
        for name, one in running.items():
            tallies[name].add(one.result())
    return ""


def _failure(fault: Fault) -> Failure:
    packed = base64.b85encode(zlib.compress(fault.data, 9)).decode()
    return Failure(f"{fault.reader}:{packed}", f"{fault.saw}: {fault.data[:200]!r}")


def _play(case: str, program: Path | None) -> Outcome:
    """One input, as a Failure names it."""
    name, _, packed = case.partition(":")
    if name not in READERS:
        raise RigError(f"--case: no reader {name!r}: one of {', '.join(READERS)}")
    try:
        data = zlib.decompress(base64.b85decode(packed))
    except (ValueError, zlib.error) as error:
        raise RigError(f"--case: not an input as a failure names it: {error}") from error
    with _go(program) as go, interrupted_where_it_hangs():
        faults = faults_of(name, data, go)
    return Outcome(1, tuple(_failure(fault) for fault in faults.values()))
