"""How the demo's lines are broken."""

from __future__ import annotations

import shlex

import pytest

from cni_repair.demo.console import Console

COMMAND = (
    "node# CNI_COMMAND=ADD CNI_NETNS=/run/netns/web-1"
    " CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-1' cni-repair"
)


def console(columns: int) -> Console:
    made = Console()
    made.columns = columns - 1
    return made


@pytest.mark.parametrize("columns", [40, 50, 60, 72, 80, 100])
def test_broken_command_means_the_same(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    console(columns).command(COMMAND)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) < columns
    assert shlex.split(said.replace("\\\n", "")) == shlex.split(COMMAND)


@pytest.mark.parametrize("columns", [40, 80])
def test_words_stay_whole(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = "the pods' interfaces are what they were before " * 4
    made = console(columns)
    for say in (made.title, made.step, made.output, made.ok, made.failed, made.end):
        say(text)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) < columns
    marks = {"1.", "ok:", "FAILED:"}
    assert [word for word in said.split() if word not in marks] == text.split() * 6


def test_line_that_fits_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """It may be a row of a table."""
    console(80).output("STATE    POD\nlost     web-1\n")
    assert capsys.readouterr().out == "    STATE    POD\n    lost     web-1\n"
