"""The manual on the console: in a pipe, on a terminal, on a small one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from cni_repair.cli.manual import listed, pages, rendered, spelt_for
from cni_repair.cli.parser import make_parser, parsers
from tests.unit.samples import REPOSITORY, run_module

TOPICS = [path.stem for path in sorted((REPOSITORY / "cni_repair" / "manual").glob("*.md"))]
USAGE = 2
PAGE = """\
# A page

What it is about, in **one** paragraph
of two lines: see [the other](other.md) and [the source](https://example.net/x).

<!-- scene: three pods
of two lines -->
## With *code*

```console
$ sudo cni-repair status
STATE  POD         CONTAINER     IFNAME  MASTER  ADDRESSES
  <!-- not one -->
```

- first item, which is so long that it goes on below itself
  and even further
- `--second **item**`

1. one

| what | a pod | milliseconds |
|---|---:|:--|
| ADD, the macvlan plugin alone | 1 | 9.81 |
| a \\| b |
"""


def text_of(markdown: str, width: int) -> list[str]:
    return [line.text for line in rendered(markdown, width)]


def test_markdown_as_text() -> None:
    assert text_of(PAGE, 48) == [
        "A PAGE",
        "",
        "What it is about, in one paragraph of two lines:",
        "see the other and the source",
        "(https://example.net/x).",
        "",
        "With code",
        "",
        "    $ sudo cni-repair status",
        "    STATE  POD         CONTAINER     IFNAME",
        "        MASTER  ADDRESSES",
        "",
        "- first item, which is so long that it goes on",
        "  below itself and even further",
        "- `--second **item**`",
        "",
        "1. one",
        "",
        "what                         a pod  milliseconds",
        "---------------------------  -----  ------------",
        "ADD, the macvlan plugin      1      9.81",
        "alone",
        "a | b",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    texts = [PAGE, *(page.text for page in pages().values())]
    for text in texts:
        assert max(map(len, text_of(text, width))) <= width
    assert max(len(line.text) for line in listed(pages(), width)) <= width


def test_folded_command_is_still_one_for_a_shell() -> None:
    """An output is folded as it is; a command is typed, or pasted, as it stands there."""
    page = (
        "```console\n$ sudo sed -i s/one/other/ /etc/some.conf\nan output that is too long\n```\n"
    )
    assert text_of(page, 30) == [
        "    $ sudo sed -i \\",
        "        s/one/other/ \\",
        "        /etc/some.conf",
        "    an output that is too long",
    ]


def test_nothing_of_a_page_is_lost() -> None:
    def words(text: str) -> set[str]:
        return set(re.findall(r"[A-Za-z0-9]{3,}", text.lower()))

    for page in pages().values():
        shown = words(" ".join(text_of(page.text, 100)))
        left_out = re.sub(r"<!--.*?-->|^```\w+|\]\([^)]*\)", "", page.text, flags=re.S | re.M)
        assert words(left_out) <= shown


def test_characters_that_a_console_has_not() -> None:
    assert spelt_for("a → b … ü", "ascii") == "a -> b ... ?"
    assert spelt_for("a → b", "utf-8") == "a → b"


# --- the command ---------------------------------------------------------------------------------


def test_topics_are_listed_with_what_they_are_about() -> None:
    done = run_module("help")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("on-call ")  # what is wanted in a hurry
    listed_topics = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert sorted(listed_topics[:-1]) == sorted(TOPICS)
    assert lines[-1] == "`cni-repair help TOPIC` shows one of them."


@pytest.mark.parametrize("topic", TOPICS)
def test_page_in_a_pipe(topic: str) -> None:
    done = run_module("help", topic, environ={"COLUMNS": "60"})
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert "<!--" not in text and "```" not in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 60


def test_page_as_users_type_it() -> None:
    assert run_module("help", "On-Call").stdout == run_module("help", "on-call").stdout


def test_command_without_a_page_shows_its_options() -> None:
    done = run_module("help", "validate")
    assert done.returncode == 0
    assert done.stdout == run_module("validate", "--help").stdout


@pytest.mark.parametrize("name", ["", *parsers()])
def test_no_line_of_a_commands_options_is_wider_than_a_console(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parser = parsers()[name] if name else make_parser([])
    assert [line for line in parser.format_help().splitlines() if len(line) > 80] == []


def test_unknown_topic_names_the_nearest_in_one_line_of_a_console() -> None:
    done = run_module("help", "oncall")
    assert (done.returncode, done.stdout) == (USAGE, b"")
    said = "cni-repair: help: no page 'oncall': did you mean on-call? cni-repair help lists them\n"
    assert done.stderr.decode() == said
    assert b"did you mean" not in run_module("help", "zzz").stderr


def on_a_terminal(columns: int, **environ: str) -> str:
    """What `help cost` shows on one."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 1000, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "cni_repair", "help", "on-call"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    heard = b""
    try:
        while True:
            heard += os.read(ours, 65536)
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return heard.decode()


def test_on_a_terminal(tmp_path: Path) -> None:
    """With `less` (of which -F prints what fits on the screen), and where there is none."""
    bare = {"PATH": str(tmp_path)}
    for environ in ({}, bare):
        shown = on_a_terminal(50, TERM="xterm", **environ)
        assert "\x1b[1mON CALL" in shown
        plain = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[>=])|\r", "", shown)
        assert max(map(len, plain.splitlines())) <= 50


def test_on_a_dumb_terminal() -> None:
    shown = on_a_terminal(50, TERM="dumb")
    assert "\x1b" not in shown
    assert shown.startswith("ON CALL\r\n")
    assert max(len(line) for line in shown.replace("\r", "").splitlines()) <= 50
