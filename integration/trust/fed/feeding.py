"""Readers fed: input after input, each judged by what came of it."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType

from integration.trust.fed.documents import READERS as DOCUMENTS
from integration.trust.fed.golang import Go
from integration.trust.fed.mutation import Mutator
from integration.trust.fed.others import READERS as OTHERS
from integration.trust.fed.reader import Question, Reader

READERS: dict[str, Reader] = {reader.name: reader for reader in (*DOCUMENTS, *OTHERS)}
SLOW_SECONDS = 0.5  # of processor time: what else runs on the machine does not count
HANGS_SECONDS = 20.0
_LOOKS = 3  # at a slow one: the machine may have been at fault
_ASKED_AT_ONCE = 64


@dataclass(frozen=True)
class Fault:
    """An input of which something came that must not."""

    reader: str
    kind: str  # the same for inputs that show the same fault
    saw: str
    data: bytes


@dataclass
class Tally:
    """What came of many inputs."""

    tried: int = 0
    accepted: int = 0
    asked: int = 0  # of Go
    seconds: float = 0.0
    slowest: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)  # by their kind

    def add(self, other: Tally) -> None:
        self.tried += other.tried
        self.accepted += other.accepted
        self.asked += other.asked
        self.seconds += other.seconds
        self.slowest = max(self.slowest, other.slowest)
        self.faults = {**other.faults, **self.faults}


class Hangs(BaseException):
    """An input keeps its reader busy."""


class Judge:
    """Feeds one reader, and remembers what came of it."""

    def __init__(self, reader: Reader, go: Go | None) -> None:
        self.tally = Tally()
        self._reader = reader
        self._go = go
        self._waiting: list[tuple[bytes, Question]] = []

    def try_(self, data: bytes) -> None:
        self.tally.tried += 1
        start = time.process_time()
        try:
            questions = self._reader.read(data)
        except self._reader.declared:
            questions = None
        except (Exception, Hangs) as error:
            self._is_bad(*_what(error), data)
            questions = None
        taken = time.process_time() - start
        self.tally.seconds += taken
        if taken > self.tally.slowest:
            if taken > SLOW_SECONDS:
                taken = min(taken, *(self._again(data) for _ in range(_LOOKS)))
            if taken > SLOW_SECONDS:
                self._is_bad("slow", f"{taken:.1f} s for {len(data)} bytes", data)
            self.tally.slowest = max(self.tally.slowest, taken)
        if questions is not None:
            self.tally.accepted += 1
            if self._go:
                self._waiting += [(data, question) for question in questions]
                if len(self._waiting) >= _ASKED_AT_ONCE:
                    self.ask()

    def _again(self, data: bytes) -> float:
        start = time.process_time()
        try:
            self._reader.read(data)
        except (Exception, Hangs):
            pass  # it was told already
        return time.process_time() - start

    def ask(self) -> None:
        """Have Go read what was accepted since."""
        if self._go is None or not self._waiting:
            return
        answers = self._go.ask([question for _, question in self._waiting])
        for (data, question), answer in zip(self._waiting, answers, strict=True):
            complaint = question.complaint(answer)
            if complaint:
                kind = f"go {question.letter} {complaint[:24]}"
                self._is_bad(kind, complaint, data)
        self.tally.asked += len(self._waiting)
        self._waiting = []

    def _is_bad(self, kind: str, saw: str, data: bytes) -> None:
        known = self.tally.faults.get(kind)
        if known is None or len(data) < len(known.data):
            self.tally.faults[kind] = Fault(self._reader.name, kind, saw, data)


def _what(error: BaseException) -> tuple[str, str]:
    """A fault's kind, and its words: where in the product, and what."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}cni_repair{os.sep}" in frame.filename]
    frame = (ours or list(frames))[-1]
    where = f"{frame.filename.rpartition('cni_repair/')[2]}:{frame.lineno}"
    name = type(error).__name__
    return f"{name} {where}", f"{name}: {error} ({where})"


@contextmanager
def interrupted_where_it_hangs() -> Iterator[None]:
    """Context: an input that takes very long is ended. To be entered in the main thread."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"no end after {HANGS_SECONDS:g} s")

    before = signal.signal(signal.SIGPROF, end)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def feed(name: str, seed: int, part: int, count: int, until: float, go: Go | None) -> Tally:
    """One part of a reader's inputs; before the first of them the corpus as it is. `until`: by
    time.monotonic, when to stop, whatever is left."""
    if time.monotonic() > until:
        return Tally()
    reader = READERS[name]
    seeds = reader.seeds()
    random = Random(f"{seed} {name} {part}")
    mutator = Mutator(random, seeds, reader.form, reader.words)
    judge = Judge(reader, go)
    as_they_are = seeds if part == 0 else []
    with interrupted_where_it_hangs():
        for number in range(len(as_they_are) + count):
            if number % 16 == 0:
                if time.monotonic() > until:
                    break
                signal.setitimer(signal.ITIMER_PROF, HANGS_SECONDS)
            judge.try_(as_they_are[number] if number < len(as_they_are) else mutator.next())
        signal.setitimer(signal.ITIMER_PROF, 0)
        judge.ask()
    return judge.tally
