"""What /proc tells, against processes that we start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_repair.base import procfs
from tests.processes import ended


@pytest.fixture
def oddly_named(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name in /proc/PID/stat looks like further fields."""
    program = tmp_path / "a) Z (1 2"
    program.symlink_to(sys.executable)
    with ended(subprocess.Popen([program, "-ISc", "input()"], stdin=subprocess.PIPE)) as process:
        while b"a) Z (1 2" not in Path(f"/proc/{process.pid}/stat").read_bytes():
            time.sleep(0.001)
        yield process


def test_stat_of_an_oddly_named_process(oddly_named: subprocess.Popen[bytes]) -> None:
    found = procfs.stat_of(oddly_named.pid)
    assert found is not None
    assert found.state in "RSD"
    assert found.session == os.getsid(oddly_named.pid)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - found.start / os.sysconf("SC_CLK_TCK")
    assert 0 <= age < 60
    assert procfs.start_of(oddly_named.pid) == found.start
    assert oddly_named.pid in procfs.process_ids()


def test_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert procfs.stat_of(process.pid) is None
    assert procfs.start_of(process.pid) is None
    assert procfs.cgroups_of(process.pid) == ""


def test_cgroups_of_this_process() -> None:
    assert procfs.cgroups_of(os.getpid()) == Path("/proc/self/cgroup").read_text()


def test_boot_id() -> None:
    assert procfs.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
