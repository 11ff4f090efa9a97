"""CHANGELOG.md: what two branches wrote must not stand there twice after their merge."""

from __future__ import annotations

import re
from collections import Counter

from tests.unit.samples import REPOSITORY

_BEGINNING = 40  # characters: one of two that say the same may have been reworded since


def test_no_entry_stands_twice() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    beginnings = re.findall(rf"^- .{{{_BEGINNING}}}", text, re.M)
    assert len(beginnings) > 50
    assert [line for line, times in Counter(beginnings).items() if times > 1] == []
