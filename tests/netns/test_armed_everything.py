"""Generated pods are repaired twice, unarmed and armed, and end alike.

More, and other ones each time:

    CNI_REPAIR_CONFIGURATIONS=300 pytest tests/netns/test_armed_everything.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.netns.podconfig import Configuration, generate
from tests.netns.rig import Rig, options
from tests.netns.test_armed_index import fired, told
from tests.netns.test_everything import BATCH, Batch, Case

MANY = int(os.environ.get("CNI_REPAIR_CONFIGURATIONS", "0"))


class Twice(Batch):
    """A batch that loses its uplinks twice."""

    armed_pods = 0  # how many were fired, and needed nothing more

    def repaired(self, patch: str = "") -> None:
        self.rig.reload()
        self.rig.reload("eth1", ip="10.8.0.1")
        report = self.rig.cli("repair", "--all", "-o", "json", *options(self.rig), patch=patch)
        for case, entry in self.entries(report.report(report.status)):
            if entry["state"] != "healthy":
                case.problems.append(f"{'armed' if patch else 'unarmed'}: {entry['findings']}")
        self.settle()

    def twice(self) -> list[Case]:
        self.snapshot()
        index = [*(self.rig.base / "run").glob("armed-*.index")]
        away = [file.rename(file.with_suffix(".away")) for file in index]
        self.repaired()
        for case in self.cases:
            case.before = self.view(case)
        for file in away:
            file.rename(file.with_suffix(".index"))
        self.repaired(told(self.rig))
        _, count, missed = fired(self.rig)
        self.armed_pods = count - sum(missed.values())
        self._compare()
        return self.cases


def alike(base: Path, configurations: Sequence[Sequence[Configuration]]) -> tuple[list[Case], int]:
    """Those that end otherwise, and how many were armed to the end."""
    odd: list[Case] = []
    armed = 0
    for number, some in enumerate(configurations):
        directory = base / str(number)
        directory.mkdir()
        with Rig(directory) as rig:
            batch = Twice(rig, detect_duplicates=number % 2 == 1, both_uplinks=True)
            rig.uplink_up("eth1", "10.8.0.1")
            batch.attach(some)
            for case in batch.cases:
                batch.apply(case)
            batch.settle()
            odd += [case for case in batch.twice() if case.problems]
            armed += batch.armed_pods
    return odd, armed


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_armed_and_unarmed_repairs_end_alike(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = generate(MANY or 24, fixed=not MANY)
    odd, armed = alike(tmp_path, [made[at : at + BATCH] for at in range(0, len(made), BATCH)])
    assert not odd, "\n".join(map(str, odd))
    # (The others have sysctls that take a file, or lifetimes.)
    assert armed >= len(made) // 4
    if MANY:
        with capfd.disabled():
            print(f"\n{len(made)} configurations, {armed} interfaces armed to the end")
