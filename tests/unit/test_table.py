"""Tables: aligned, and with each reason below the rows that share it."""

from __future__ import annotations

import sys

import pytest

from cni_repair.base.columns import Line, Row, table_of, with_reasons
from cni_repair.cli.table import print_table

ROWS = [
    Row("healthy", ("a",)),
    Row("unreachable", ("b",), "silent"),
    Row("unreachable", ("c",), "silent"),
    Row("lost", ("d",), "gone"),
    Row("healthy", ("e",)),
]
TEXT = [
    "STATE        POD",
    "healthy      a",
    "unreachable  b",
    "unreachable  c",
    "    all 2: silent",
    "lost         d",
    "    gone",
    "healthy      e",
]


def test_reason_that_rows_share_is_said_once() -> None:
    lines = table_of(("STATE", "POD"), ROWS)
    assert [line.text for line in lines] == TEXT
    assert [line.state for line in lines if not line.text.startswith(" ")] == [
        "STATE", *(row.state for row in ROWS),
    ]  # fmt: skip
    assert all(line.state == "" for line in lines if line.text.startswith(" "))


def test_rows_of_one_reason_stand_together() -> None:
    """One cause of five pods is not told as three and two."""
    lines = [(Line(name), reason) for name, reason in [("a", "x"), ("b", "y"), ("c", "x")]]
    assert [line.text for line in with_reasons(lines)] == [
        "a", "c", "    all 2: x", "b", "    y",
    ]  # fmt: skip
    assert with_reasons([]) == []


def test_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("STATE", "POD"), ROWS)
    assert capsys.readouterr().out.splitlines() == TEXT


def test_states_are_coloured_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "vt100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("STATE", "POD"), [*ROWS, Row("stale", ("f" * 200,), "no more")])
    out = capsys.readouterr().out
    for line in [
        "\x1b[1mSTATE\x1b[0m        POD\n",
        "\x1b[32mhealthy\x1b[0m      a\n",
        "\x1b[31munreachable\x1b[0m  b\n",
        "\n    all 2: silent\n",
        "\x1b[35mstale\x1b[0m        " + "f" * 200 + "\n",  # one piece, to be copied
        "\n    no more\n",
    ]:
        assert line in out
