"""The rig that changes the source (integration/trust/mutants): survivors by what they change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integration.trust.mutants.change import Change, Mutant, mutants_below
from integration.trust.mutants.explained import Explained, explained, judge, rows
from tests.unit.samples import REPOSITORY

# As mutmut writes it: the original and each change of it, side by side.
MADE = """\
class Lock:
    def xǁLockǁ_open__mutmut_orig(self, flags: int = 1) -> int:
        return os.open(
            self.path,
            flags,
        )

    def xǁLockǁ_open__mutmut_1(self, flags: int = 2) -> int:
        return os.open(
            self.path,
            flags,
        )

    def xǁLockǁ_open__mutmut_2(self, flags: int = 1) -> int:
        return os.open(
            self.path,
            )

def x__wait__mutmut_orig(seconds: float) -> bool:
    return seconds > 0 and  flag

def x__wait__mutmut_12(seconds: float) -> bool:
    return seconds >= 0 and  flag
"""
OPEN_1 = Change(
    "checkpoint/locks",
    "Lock._open",
    "- def _open(self, flags: int = 1) -> int: + def _open(self, flags: int = 2) -> int:",
)
WAIT = Change(
    "checkpoint/locks", "_wait", "- return seconds > 0 and flag + return seconds >= 0 and flag"
)


def test_survivors_are_told_by_what_they_change(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/locks.py").write_text(MADE)
    module = "cni_repair.checkpoint.locks."
    codes = {
        f"{module}xǁLockǁ_open__mutmut_1": 1,
        f"{module}xǁLockǁ_open__mutmut_2": None,  # not carried out
        f"{module}x__wait__mutmut_12": 0,
    }
    (tmp_path / "checkpoint/locks.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    assert list(mutants_below(tmp_path)) == [
        Mutant(f"{module}xǁLockǁ_open__mutmut_1", OPEN_1, True),
        Mutant(f"{module}x__wait__mutmut_12", WAIT, False),
    ]


TABLE = """\
# for people

checkpoint/locks: nobody waits for 0 seconds
  _wait: - return seconds > 0 and flag + return seconds >= 0 and flag
"""
ROW = Explained(WAIT, "nobody waits for 0 seconds")


def test_table_is_as_the_proof_prints() -> None:
    assert rows(TABLE) == [ROW]


def survivor(change: Change) -> Mutant:
    return Mutant("x", change, is_killed=False)


KILLED = Mutant("x", WAIT, is_killed=True)
OTHER = Change("checkpoint/locks", "_wait", "- return seconds > 0 + return seconds > 1")


@pytest.mark.parametrize(
    ("mutants", "known", "unknown", "outdated"),
    [
        ([survivor(WAIT)], 1, 0, 0),
        ([survivor(WAIT), survivor(WAIT)], 1, 1, 0),  # the same line, further down
        ([survivor(WAIT), survivor(OTHER)], 1, 1, 0),
        ([KILLED], 0, 0, 0),  # by chance: it took too long
        ([survivor(OTHER)], 0, 1, 1),
    ],
    ids=["explained", "twice", "another", "killed", "no such line"],
)
def test_each_survivor_needs_its_row_and_each_row_its_line(
    mutants: list[Mutant], known: int, unknown: int, outdated: int
) -> None:
    judged = judge(mutants, [ROW], whole=True)
    found = len(judged.explained), len(judged.unexplained), len(judged.outdated)
    assert found == (known, unknown, outdated)


def test_of_a_single_case_no_row_is_outdated() -> None:
    assert judge([survivor(OTHER)], [ROW], whole=False).outdated == ()


def test_what_is_explained_is_of_modules_that_exist() -> None:
    product = REPOSITORY / "cni_repair"
    for change, why in explained():
        assert (product / f"{change.module}.py").is_file(), change
        assert why and change.function and " + " in f"{change.diff} + ", change
