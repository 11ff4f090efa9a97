"""What reaches a terminal: names come from pods and files, and must not steer it."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.cli.printable import one_line, printable, say
from tests.unit.samples import REPOSITORY

CLI = Path(REPOSITORY, "cni_repair", "cli")
# What these print is made here, not by pods.
OWN_TEXT = {"printable.py", "manpage.py", "completion.py", "arguments.py", "consent.py"}
OWN_TEXT |= {"help.py", "sbom.py"}


@given(st.text())
def test_printable_is_one_line_of_the_same_length(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    assert one_line(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pod\n# 1 attachment: 1 healthy", "pod # 1 attachment: 1 healthy"),
        ("\x1b[31mred\x9b0m", "?[31mred?0m"),
        ("a\u202eb\u2028c\td", "a?b c d"),
        ("  ü  ", "  ü  "),
    ],
)
def test_said_in_one_line(text: str, shown: str) -> None:
    out = io.StringIO()
    say(text, out)
    assert out.getvalue() == f"{shown}\n"


@pytest.mark.parametrize("path", sorted(CLI.rglob("*.py")), ids=lambda path: str(path.name))
def test_commands_print_by_say_alone(path: Path) -> None:
    """Or documents, which are ASCII."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    raw = [call for call in calls if not ast.unparse(call).startswith("print(dumps(")]
    assert not raw or path.name in OWN_TEXT, [f"line {call.lineno}" for call in raw]
