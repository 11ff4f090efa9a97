"""The proof `power cut` can fail: a cni-repair that syncs nothing does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cni_repair.demo.lab import Lab, product
from cni_repair.demo.private import RUN, isolate
from integration.trust.power.disk import FILE_SYSTEMS, FileSystem, can_mount
from integration.trust.power.examine import Examination, Found, Sample
from integration.trust.power.proof import missing
from integration.trust.power.reboot import another_boot
from integration.trust.power.recording import record_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_NOTHING_IS_SYNCED = "import os; os.fsync = lambda fd: None; "


@pytest.mark.parametrize("system", FILE_SYSTEMS, ids=lambda system: system.name)
def test_without_fsync_something_is_lost(system: FileSystem) -> None:
    if why := missing() or can_mount(system):
        pytest.skip(why)
    *start, program = product()
    with examined(system, [*start, _NOTHING_IS_SYNCED + program]) as found:
        assert any(one.broken for one in found)


@contextmanager
def examined(system: FileSystem, command: list[str]) -> Iterator[Iterator[Found]]:
    isolate()
    with TemporaryDirectory(dir=RUN) as above, Lab(ipv6=False) as lab:
        recording = record_here(system, Path(above), command)
        with another_boot(Path(above)):
            yield Examination(recording, lab, Path(above)).each(Sample(1, 1.0, 0.0))
