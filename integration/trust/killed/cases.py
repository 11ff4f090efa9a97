"""The cases: each act, each of its calls, each way on; and whether the end is as without a kill."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cni_repair.demo.lab import LabError
from integration.trust import tracer
from integration.trust.killed.acts import ACTS, Act, Scene
from integration.trust.killed.stage import (
    Call,
    Kill,
    Picture,
    Stage,
    Traced,
    Wrong,
    differences,
    good,
)
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


def prove(extent: Extent) -> Outcome:
    """Everything, or what a sample's time is enough for."""
    if not tracer.is_possible():
        return Outcome(0, left_out="the tracer knows the system calls of x86_64 only")
    with tempfile.TemporaryDirectory(prefix="cni-repair-killed-", dir="/var/tmp") as name:
        proof = _Proof(Path(name))
        try:
            if extent.case:
                return proof.outcome([_parsed(extent.case)])
            until = None if extent.full else time.monotonic() + extent.seconds
            return proof.outcome(proof.cases(extent), until)
        finally:
            proof.close()


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
        self._golden: dict[tuple[str, str], Picture] = {}
        self._tried: Counter[str] = Counter()
        self._missed = 0

    def close(self) -> None:
        self._stages.close()
        self._stage = None

    def cases(self, extent: Extent) -> Iterator[Case]:
        """All, act by act; of a sample one of each act in turn, by chance."""
        if extent.full:
            for act in ACTS.values():
                yield from self._cases_of(act)
            return
        chance = random.Random(extent.seed)
        heaps = []
        for act in ACTS.values():
            heap = self._cases_of(act)
            chance.shuffle(heap)
            heaps.append(heap)
        while any(heaps):
            for heap in heaps:
                if heap:
                    yield heap.pop()

    def outcome(self, cases: Iterator[Case] | list[Case], until: float | None = None) -> Outcome:
        failures = []
        for case in cases:
            saw = self._try(case)
            if saw:
                failures.append(Failure(str(case), saw))
                self.close()
            if until is not None and time.monotonic() > until:
                break
        figures = [(act, f"{number:,} kills") for act, number in self._tried.items()]
        if self._missed:
            figures.append(("calls that a second run did not make", f"{self._missed:,}"))
        return Outcome(self._tried.total(), tuple(failures), tuple(figures))

    def _clean(self) -> Stage:
        if self._stage is None:
            self._stage = self._stages.enter_context(Stage(self._directory))
        return self._stage

    def _cases_of(self, act: Act) -> list[Case]:
        """After one run that nobody disturbs: it shows the calls."""
        stage = self._clean()
        calls = good_run(act, act.prepare(stage)).calls
        self._leave(stage)
        return [
            Case(act.name, Kill(call.place, call.number, who), then, call)
            for call in calls
            for who in act.who
            for then in act.thens
        ]

    def _try(self, case: Case) -> str:
        """What is wrong; empty where nothing is."""
        act = ACTS[case.act]
        golden = self._golden_of(act, case.then)
        try:
            scene = act.prepare(self._clean())
            traced = act.run(scene, case.kill)
            if not traced.was_killed:
                self._missed += 1
            else:
                self._tried[act.name] += 1
            act.thens[case.then](scene)
            wrong = differences(scene.exact, scene.stage.exact(scene.pods) if scene.exact else {})
            wrong += differences(golden, scene.stage.picture(scene.pods))
            self._leave(scene.stage)
        except (Wrong, LabError) as error:
            wrong = [str(error)]
        words = f"{case.call.words}: " if case.call else ""
        return words + "; ".join(wrong) if wrong else ""

    def _golden_of(self, act: Act, then: str) -> Picture:
        if (act.name, then) not in self._golden:
            scene = act.prepare(self._clean())
            good_run(act, scene)
            act.thens[then](scene)
            self._golden[act.name, then] = scene.stage.picture(scene.pods)
            self._leave(scene.stage)
        return self._golden[act.name, then]

    @staticmethod
    def _leave(stage: Stage) -> None:
        """As for the first case: no pod is there."""
        for pod in [*stage.lab.pods]:
            stage.must("DEL", pod)
        stage.lab.remove([*stage.lab.pods])


def good_run(act: Act, scene: Scene) -> Traced:
    """As nobody disturbs it."""
    traced = act.run(scene, None)
    good(act.name, traced.outcome)
    return traced
