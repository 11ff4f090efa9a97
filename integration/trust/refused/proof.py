"""The proof: which cases there are, a sample of them, and the carrying out, on all processors."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cni_repair.demo.lab import Lab, LabError
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
# Those that make, open or change something, and those that read what decides.
CALLS = (
    "openat", "openat2", "dup", "dup2", "dup3", "pipe", "pipe2", "socket", "socketpair",
    "memfd_create", "pidfd_open", "inotify_init1", "eventfd2", "epoll_create1", "fcntl", "close",
    "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir",
    "chmod", "fchmod", "fchmodat", "ftruncate", "utimensat", "write", "pwrite64", "writev",
    "fsync", "fdatasync", "flock", "read", "pread64", "lseek", "getdents64", "stat", "lstat",
    "newfstatat", "fstat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "bind", "connect", "setsockopt", "getsockopt", "getsockname", "sendto", "sendmsg", "recvfrom",
    "recvmsg", "ioctl", "poll", "setns", "prctl", "clone", "clone3", "fork", "vfork", "wait4",
    "kill", "rt_sigtimedwait", "mmap", "sched_getaffinity",
)  # fmt: skip
# What the interpreter does before it reads our code is not ours.
_OURS = "/cni_repair/"
_SHARE = 12  # of a sample, at most so many cases of each situation
_MEMORY = ("mmap",)
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
    until: float = float("inf")

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
    """All errors at each call; where calls are alike at the first, and one of them at each other,
    in turn."""
    seen: Counter[str] = Counter()
    for point in points:
        like = _likeness(point)
        errors = ("ENOMEM",) if point.name in _MEMORY else ERRORS
        if seen[like]:
            errors = (errors[seen[like] % len(errors)],)
        seen[like] += 1
        yield from ((point, error) for error in errors)


def _likeness(point: Point) -> str:
    text = point.text
    for pattern, word in _ALIKE:
        text = pattern.sub(word, text)
    return f"{point.name} {text}"


def prove(extent: Extent) -> Outcome:
    """Carry out all cases, or a sample of them."""
    until = float("inf") if extent.full else time.monotonic() + extent.seconds
    names = [extent.case.rsplit(" ", 2)[0]] if extent.case else list(SITUATIONS)
    processors = os.cpu_count() or 1
    parts = processors if extent.full and not extent.case else 1
    fork = multiprocessing.get_context("fork")  # (a Lab's mounts are its process's)
    with tempfile.TemporaryDirectory(prefix="cni-repair-refused-", dir="/var/tmp") as directory:
        product = packed(Path(directory))
        work = [
            _Part(name, extent, product, number, parts, until)
            for name in names
            for number in range(parts)
        ]
        with ProcessPoolExecutor(processors, fork) as pool:
            tallies = list(pool.map(_carry_out, work))
    ends = sum((tally.ends for tally in tallies), Counter[str]())
    return Outcome(
        sum(tally.tried for tally in tallies),
        tuple(failure for tally in tallies for failure in tally.failures),
        tuple((name, f"{number:,}") for name, number in sorted(ends.items())),
    )


def packed(directory: Path) -> tuple[str, ...]:
    """The command that starts cni-repair from a copy, with its pack, as install.sh makes it
    (to read that may fail, too)."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "cni_repair", directory / "cni_repair", ignore=skip)
    python = (sys.executable, "-I", "-S", "-c")
    begin = (
        f"import sys; sys.path[:0] = [{str(directory)!r}];"
        f" sys.path.append({sysconfig.get_path('purelib')!r}); "
    )
    subprocess.run([*python, f"{begin}from cni_repair.base.pack import make; make()"], check=True)
    return (*python, f"{begin}from cni_repair.__main__ import main; sys.exit(main())")


def _carry_out(part: _Part) -> _Tally:
    kind = SITUATIONS[part.situation]
    with Lab(kind.pods, ipv6=False, command=part.product) as lab:
        case = _Case(kind(lab))
        tally = _Tally()
        for point, error in part.cases(case.points()):
            if time.monotonic() > part.until:
                break
            tally.tried += 1
            try:
                saw = case.wrong(point, error)
            except LabError as failure:  # it has not ended
                saw = str(failure)
            if saw:
                tally.failures.append(Failure(f"{part.situation} {point} {error}", saw))
            tally.ends[case.end] += 1
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
            situation.command.run(situation.lab, lambda c: traced(c, self._diary, CALLS))
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
        saw = saw or situation.wrong_after(succeeded)
        after = situation.wrong_after_retry(succeeded)
        if saw == HOLDS and after != HOLDS:
            saw = f"after the retry: {after}"
        return saw and f"{saw} ({'exit 0' if succeeded else 'failed'}; {_told(self._diary)})"


def _told(diary: Path) -> str:
    point = reached(diary)
    return f"{point.name}({point.text[:100]}" if point else "not reached"
