"""The proof: which cases there are, a sample of them, and the carrying out, on all processors."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cni_repair.demo.lab import Lab, LabError
from cni_repair.placing.launcher import launcher_text
from integration.command import CHECKOUT
from integration.trust.proof import Extent, Failure, Outcome
from integration.trust.refused.judge import wrong_with
from integration.trust.refused.situations import HOLDS, SITUATIONS, Situation
from integration.trust.refused.tracing import (
    Point,
    point_named,
    points_in,
    reached,
    refused,
    traced,
)

NAME = "refused"
WHAT = "a system call fails once: each of ADD, DEL, REPAIR, --all, snapshot, adopt, status"

ERRORS = ("ENOSPC", "EIO", "EROFS", "EMFILE", "ENOMEM", "EINTR", "EACCES", "ENOBUFS")
# Those that change something, or make a descriptor or a process: with each of the errors.
CHANGING = (
    "openat", "openat2", "dup", "dup2", "dup3", "pipe", "pipe2", "socket", "socketpair",
    "memfd_create", "pidfd_open", "inotify_init1", "eventfd2", "epoll_create1", "fcntl",
    "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir",
    "chmod", "fchmod", "fchmodat", "ftruncate", "utimensat", "write", "pwrite64", "writev",
    "fsync", "fdatasync", "flock", "bind", "connect", "sendto", "sendmsg", "setns", "prctl",
    "clone", "clone3", "fork", "vfork", "kill",
)  # fmt: skip
# Those that tell something, by which the others are decided: with one of the errors, in turn.
TELLING = (
    "close", "read", "pread64", "lseek", "getdents64", "stat", "lstat", "newfstatat", "fstat",
    "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "setsockopt",
    "getsockopt", "getsockname", "recvfrom", "recvmsg", "ioctl", "poll", "wait4",
    "rt_sigtimedwait", "mmap", "sched_getaffinity",
)  # fmt: skip
# What the interpreter does before it reads our code is not ours.
_OURS = "/cni_repair/"
_FULL_PROCESSES = 8  # for each processor
_SHARE = 12  # of a sample, at most so many cases of each situation
_MEMORY = ("mmap",)
_ENDS_AT_ONCE = "cannot return to the node's network namespace"
_MOST_ALIKE = 12  # of calls that are alike, spread over the run
# Hundreds of calls of a run are alike but for a name or a number: of the interpreter, which reads
# our code; of sysctls; of what each process of the machine says of itself.
_ALIKE = (
    (re.compile(r'^.*(/cni_repair[/">]|\.py|\.so\b|/lib/python|site-packages|TCGETS).*'), "code"),
    (re.compile(r"/proc/sys/net/[^\">]*"), "sysctl"),
    (re.compile(r"\(deleted\)|0x[0-9a-f]+|[0-9]+"), "0"),
)


@dataclass
class _Tally:
    """What came of some cases."""

    tried: int = 0
    failures: list[Failure] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Part:
    """The cases that one process carries out."""

    situation: str
    extent: Extent
    product: tuple[str, ...]  # the command that starts it
    number: int = 0
    parts: int = 1
    seconds: float = float("inf")

    def cases(self, points: list[Point]) -> Iterator[tuple[Point, str]]:
        if self.extent.case:
            _, point, error = self.extent.case.rsplit(" ", 2)
            yield point_named(point), error
            return
        cases = [*_all_cases(points)]
        if not self.extent.full:
            random.Random(f"{self.extent.seed} {self.situation}").shuffle(cases)
            del cases[_SHARE:]
        yield from cases[self.number :: self.parts]


def _all_cases(points: Sequence[Point]) -> Iterator[tuple[Point, str]]:
    """Where one of CHANGING is of those that are alike, all errors at the first of them."""
    total = Counter(map(_likeness, points))
    seen: Counter[str] = Counter()
    for point in points:
        like = _likeness(point)
        number = seen[like]
        seen[like] += 1
        place, before = (at * _MOST_ALIKE // total[like] for at in (number, number - 1))
        if number == 0 and point.name in CHANGING:
            yield from ((point, error) for error in ERRORS)
        elif total[like] <= _MOST_ALIKE or place != before:
            turn = (len(seen) + number) % len(ERRORS)
            yield point, "ENOMEM" if point.name in _MEMORY else ERRORS[turn]


def _likeness(point: Point) -> str:
    text = point.text
    for pattern, word in _ALIKE:
        text = pattern.sub(word, text)
    return f"{point.name} {text}"


def prove(extent: Extent) -> Outcome:
    """Carry out all cases, or a sample of them."""
    names = [extent.case.rsplit(" ", 2)[0]] if extent.case else list(SITUATIONS)
    # (Most of a case is waiting for one process after the other to start and end.)
    processes = (os.cpu_count() or 1) * (_FULL_PROCESSES if extent.full else 1)
    parts = processes // 2 if extent.full and not extent.case else 1
    # Of a sample each situation has its share, however slow the machine is.
    seconds = float("inf") if extent.full else extent.seconds * processes / len(names)
    fork = multiprocessing.get_context("fork")  # (a Lab's mounts are its process's)
    with tempfile.TemporaryDirectory(prefix="cni-repair-refused-", dir="/var/tmp") as directory:
        product = packed(Path(directory))
        work = [
            _Part(name, extent, product, number, parts, seconds)
            for name in names
            for number in range(parts)
        ]
        with ProcessPoolExecutor(processes, fork) as pool:
            tallies = list(pool.map(_carry_out, work))
    ends = {name: Counter[str]() for name in names}
    for part, tally in zip(work, tallies, strict=True):
        ends[part.situation] += tally.ends
    return Outcome(
        sum(tally.tried for tally in tallies),
        tuple(failure for tally in tallies for failure in tally.failures),
        tuple((name, _in_words(one)) for name, one in ends.items()),
    )


def _in_words(ends: Counter[str]) -> str:
    said = [f"{number:,} {end}" for end, number in ends.most_common()]
    return f"{ends.total():,} cases: {', '.join(said)}"


def packed(directory: Path) -> tuple[str, ...]:
    """The command that starts cni-repair from a copy, with its pack, as install.sh makes it
    (to read that may fail, too)."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "cni_repair", directory / "cni_repair", ignore=skip)
    launcher = directory / "cni-repair"
    launcher.write_text(launcher_text(sys.executable, [str(directory)]))
    launcher.chmod(0o755)
    python = (sys.executable, "-I", "-S", "-c")
    begin = f"import sys; sys.path[:0] = [{str(directory)!r}]; "
    subprocess.run(
        [*python, f"{begin}from cni_repair.base.packing import make; make()"], check=True
    )
    return (str(launcher),)


def _carry_out(part: _Part) -> _Tally:
    kind = SITUATIONS[part.situation]
    with Lab(kind.pods, ipv6=False, command=part.product) as lab:
        case = _Case(kind(lab))
        tally = _Tally()
        cases = part.cases(case.points())
        until = time.monotonic() + part.seconds
        for point, error in cases:
            tally.tried += 1
            try:
                saw = case.wrong(point, error)
            except LabError as failure:  # it has not ended
                saw = str(failure)
            if saw:
                tally.failures.append(Failure(f"{part.situation} {point} {error}", saw))
            tally.ends[case.end] += 1
            if time.monotonic() > until:
                break
    return tally


class _Case:
    """One situation, again and again."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._diary = Path(situation.lab.directory) / "diary"
        self.end = ""

    def points(self) -> list[Point]:
        """The system calls of an undisturbed run that are ours."""
        situation = self._situation
        for _ in range(2):  # the first may have compiled our modules
            situation.set_up()
            situation.command.run(
                situation.lab, lambda c: traced(c, self._diary, (*CHANGING, *TELLING))
            )
        points = points_in(self._diary)
        first = next(at for at, point in enumerate(points) if _OURS in point.text)
        return points[first:]

    def wrong(self, point: Point, error: str) -> str:
        """What does not hold where that call fails so."""
        situation = self._situation
        situation.set_up()
        command = situation.command
        self.end = "did not end"
        done = command.run(situation.lab, lambda c: refused(c, self._diary, point, error))
        succeeded = done.returncode == 0
        self.end = "succeeded all the same" if succeeded else "failed, and said so"
        if reached(self._diary) is None:
            self.end = "did not come to that call"
        saw = wrong_with(done, command.answers, command.is_plugin)
        # Who ends at once cleans nothing up: whoever calls next does.
        if _ENDS_AT_ONCE not in done.stdout:
            saw = saw or situation.wrong_after(succeeded)
        after = HOLDS if succeeded else situation.wrong_after_retry()
        if saw == HOLDS and after != HOLDS:
            saw = f"after the retry: {after}"
        return saw and f"{saw} ({'exit 0' if succeeded else 'failed'}; {_told(self._diary)})"


def _told(diary: Path) -> str:
    point = reached(diary)
    return f"{point.name}({point.text[:100]}" if point else "not reached"
