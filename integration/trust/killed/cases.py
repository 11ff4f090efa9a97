"""The cases: each act, each of its calls, each way on; and whether the end is as without a kill."""

from __future__ import annotations

import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cni_repair.demo.lab import LabError
from integration.trust import tracer
from integration.trust.killed.acts import ACTS, Act
from integration.trust.killed.stage import Call, Kill, Picture, Stage, Wrong, differences, good
from integration.trust.proof import Extent, Failure, Outcome

NAME = "killed"
WHAT = "SIGKILL before every system call that changes something, then what a runtime does next"


@dataclass(frozen=True)
class Case:
    """One act, killed at one call."""

    act: str
    kill: Kill
    then: str
    call: Call | None = None  # for the words

    def __str__(self) -> str:
        return f"{self.act}/{self.kill}/{self.then}"


@dataclass(frozen=True)
class Golden:
    """An act that nobody disturbed."""

    calls: tuple[Call, ...]
    picture: Picture  # after what came next


def prove(extent: Extent) -> Outcome:
    """Everything, or what a sample's time is enough for; all of one act is a case, too."""
    if not tracer.is_possible():
        return Outcome(0, left_out="the tracer knows the system calls of x86_64 only")
    if extent.full:
        return _in_parallel()
    with _proof() as proof:
        if extent.case in ACTS:
            return proof.outcome(proof.all_of(ACTS[extent.case]))
        if extent.case:
            return proof.outcome([_parsed(extent.case)])
        return proof.outcome(proof.sample(extent.seed), time.monotonic() + extent.seconds)


@contextmanager
def _proof() -> Iterator[_Proof]:
    with tempfile.TemporaryDirectory(prefix="cni-repair-killed-", dir="/var/tmp") as name:
        proof = _Proof(Path(name))
        try:
            yield proof
        finally:
            proof.close()


def _in_parallel() -> Outcome:
    """Everything, in parts of which each has a node of its own."""
    parts = [
        (act.name, then, who) for act in ACTS.values() for then in act.thens for who in act.who
    ]
    # A part mostly waits for processes to start and end.
    workers = 2 * (os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        outcomes = [*pool.map(_part, parts)]
    kills: Counter[str] = Counter()
    for (act, _, _), outcome in zip(parts, outcomes, strict=True):
        kills[act] += outcome.tried
    return _summed(kills, tuple(one for outcome in outcomes for one in outcome.failures))


def _part(names: tuple[str, str, str]) -> Outcome:
    act, then, who = names
    with _proof() as proof:
        cases = proof.all_of(ACTS[act], [then])
        return proof.outcome(case for case in cases if case.kill.who == who)


def _summed(kills: Counter[str], failures: tuple[Failure, ...]) -> Outcome:
    figures = tuple((act, f"{number:,} kills") for act, number in kills.items())
    return Outcome(kills.total(), failures, figures)


def _parsed(text: str) -> Case:
    act, kill, then = text.split("/")
    place, number, who = kill.split(":")
    return Case(act, Kill(place, int(number), who), then)


class _Proof:
    """Carries out cases on a node, which is made anew once it is not clean any more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stages = ExitStack()
        self._stage: Stage | None = None
        self._golden: dict[tuple[str, str], Golden] = {}
        self._tried: Counter[str] = Counter()

    def close(self) -> None:
        self._stages.close()
        self._stage = None

    def all_of(self, act: Act, thens: Iterable[str] = ()) -> list[Case]:
        """Every case of an act, or those that go on in one of these ways."""
        cases = []
        for then in thens or act.thens:
            calls = self.golden(act, then).calls
            cases += [
                Case(act.name, Kill(call.place, call.number, who), then, call)
                for call in calls
                for who in act.who
            ]
        return cases

    def sample(self, seed: int) -> Iterator[Case]:
        """By chance, of each act in turn."""
        chance = random.Random(seed)
        heaps: dict[str, list[Case]] = {}
        while True:
            for act in ACTS.values():
                if act.name not in heaps:
                    heaps[act.name] = self.all_of(act, [chance.choice([*act.thens])])
                    chance.shuffle(heaps[act.name])
                if heaps[act.name]:
                    yield heaps[act.name].pop()
            if not any(heaps.values()):
                return

    def outcome(self, cases: Iterable[Case], until: float | None = None) -> Outcome:
        failures = []
        for case in cases:
            saw = self.saw(case)
            if saw:
                failures.append(Failure(str(case), saw))
                self.close()
            if until is not None and time.monotonic() > until:
                break
        return _summed(self._tried, tuple(failures))

    def saw(self, case: Case) -> str:
        """What is wrong; empty where nothing is."""
        act = ACTS[case.act]
        golden = self.golden(act, case.then)
        try:
            scene = act.prepare(self._clean())
            traced = act.run(scene, case.kill)
            # (Of processes that work side by side a call may come first that did not before.)
            self._tried[act.name] += traced.was_killed
            act.thens[case.then](scene)
            wrong = differences(scene.exact, scene.stage.exact(scene.pods) if scene.exact else {})
            wrong += differences(golden.picture, scene.stage.picture(scene.pods))
            scene.stage.clean()
        except (Wrong, LabError) as error:
            wrong = [str(error)]
        words = f"{case.call.words}: " if case.call else ""
        return words + "; ".join(wrong) if wrong else ""

    def golden(self, act: Act, then: str) -> Golden:
        """As it is where nobody is killed."""
        if (act.name, then) not in self._golden:
            scene = act.prepare(self._clean())
            traced = act.run(scene, None)
            good(act.name, traced.outcome)
            act.thens[then](scene)
            picture = scene.stage.picture(scene.pods)
            scene.stage.clean()
            self._golden[act.name, then] = Golden(traced.calls, picture)
        return self._golden[act.name, then]

    def _clean(self) -> Stage:
        if self._stage is None:
            self._stage = self._stages.enter_context(Stage(self._directory))
        return self._stage
