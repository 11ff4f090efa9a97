"""The pages that people read (README.md, cni_repair/manual): their blocks, and what they show.

    sudo python3 -m tests.manual [PAGE...]           play all console blocks; print how they differ
    sudo python3 -m tests.manual --write [PAGE...]   and write into the pages what was printed

A page is Markdown. What stands in a fenced block depends on its tag:

    console   commands (lines that begin with "$ ") and what they print, played on a throwaway node
    yaml      an upgrade plan, or the watcher's configuration, which `validate` must accept
    json      a network configuration, likewise
    sh        commands to be adapted by the reader; their syntax is checked, and our own options
    text      a drawing

A comment on the line before a block says more about it; without one, a console block goes on where
the console block before it on the page ended.

    <!-- scene: EVENT, EVENT -->    on a new node, after these events (tests/manualnode.py has them)
    <!-- then: EVENT, EVENT -->     on the same node, after these
    <!-- file: NAME -->             the block is a file of this name, beside the page's commands
    <!-- not played: REASON -->     it needs what the throwaway node has not
    <!-- test: TEST TEST -->        what proves the sentence below (tests/unit/test_trust_page.py)

A line "…" in an output stands for any number of lines.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

REPOSITORY = Path(__file__).resolve().parents[1]
MANUAL = REPOSITORY / "cni_repair" / "manual"
TAGS = ("console", "yaml", "json", "sh", "text")
DIRECTIVES = ("scene", "then", "file", "not played", "test")
ANYTHING = "…"

_FENCE = re.compile(r"```(\w*)$")
_DIRECTIVE = re.compile(rf"<!-- ({'|'.join(DIRECTIVES)}): (.+) -->$")

# What differs from one run to the next. A whole number of seconds or minutes is a setting, and has
# to be right; a measured time has a decimal point, or is in milliseconds.
_VARYING = (
    # Whoever makes a namespace next, on the machine, too, may get the inode of one that is gone.
    (
        re.compile(
            r"no process and no mount holds its namespace net:\[\d+\]"
            r"|net:\[\d+\] is another namespace by now \(at [^)]*\)"
        ),
        "NAMESPACE",
    ),
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b(?: [+-]\d{4}\b)?"), "DATE"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:\.\d{3}|Z|[+-]\d\d:\d\d)?\b"), "TIME"),
    (re.compile(r"(?<![\d.])\d+(?:\.\d+)? ms\b"), "N ms"),
    (re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])"), "N"),
    (re.compile(r"\bindex \d+"), "index N"),
    (re.compile(r"\bPID \d+"), "PID N"),
    (re.compile(r"(?<=looked at )\d+s(?= ago)|(?<=away for )\d+s|(?<=follows is )\d+s"), "Ns"),
    (re.compile(r"(?<=for another )\d+[hms](?: \d+[ms])?"), "N"),
    (re.compile(r"\bnet:\[\d+\]"), "net:[N]"),
    (re.compile(r"\b\d{8}T\d{6}Z-\d+"), "VERSION"),
)
# Columns are as wide as the widest of their cells.
_PADDING = re.compile(r"(?<=\S) {2,}")


class PageError(Exception):
    """A page that is not written as this module's docstring says."""


@dataclass(frozen=True)
class Command:
    """A command as a page shows it."""

    text: str
    output: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A fenced block, its directives before it."""

    page: Path
    line: int  # of its first line inside the fence, from 1
    tag: str
    lines: tuple[str, ...]
    directives: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def played(self) -> bool:
        return self.tag == "console" and "not played" not in self.directives

    def events(self, directive: str) -> list[str]:
        text = self.directives.get(directive, "")
        return [event.strip() for event in text.split(",") if event.strip()]


class Player(Protocol):
    """A node on which commands are played."""

    def after(self, event: str) -> None: ...

    def write(self, name: str, text: str) -> None: ...

    def run(self, command: str) -> str: ...

    def close(self) -> None: ...


class NewPlayer(Protocol):
    def __call__(self) -> Player: ...


def pages() -> list[Path]:
    return [REPOSITORY / "README.md", *sorted(MANUAL.glob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page. Raises PageError where one has no tag, or does not end."""
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: Path, lines: Sequence[str]) -> Iterator[Block]:
    directives: dict[str, str] = {}
    numbered = enumerate(lines, 1)
    for number, line in numbered:
        fence = _FENCE.match(line)
        if fence:
            inside = _until_fence(numbered, f"{page}:{number}")
            if fence[1] not in TAGS:
                raise PageError(f"{page}:{number}: tag a block as one of {', '.join(TAGS)}")
            yield Block(page, number + 1, fence[1], tuple(inside), directives)
        directive = _DIRECTIVE.match(line)
        if directive:
            directives = {**directives, directive[1]: directive[2]}
        elif line.startswith("<!--"):
            raise PageError(f"{page}:{number}: no directive of ours: {line}")
        else:
            directives = {}


def _until_fence(lines: Iterator[tuple[int, str]], where: str) -> Iterator[str]:
    for _, line in lines:
        if line == "```":
            return
        yield line
    raise PageError(f"{where}: a block without an end")


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block. Raises PageError where it begins with something else."""
    commands: list[Command] = []
    for line in block.lines:
        if line.startswith("$ "):
            commands.append(Command(line[2:], ()))
        elif commands:
            last = commands[-1]
            commands[-1] = replace(last, output=(*last.output, line))
        else:
            raise PageError(f"{block.where}: a console block begins with '$ COMMAND'")
    return commands


# --- Comparing -----------------------------------------------------------------------------------


def normal(line: str) -> str:
    """A line without what differs from one run to the next."""
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return _PADDING.sub("  ", line.rstrip())


def matches(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether a page shows what was printed, as far as it is to be compared."""
    if not shown:
        return not printed
    if shown[0] == ANYTHING:
        return any(matches(shown[1:], printed[start:]) for start in range(len(printed) + 1))
    if not printed or normal(shown[0]) != normal(printed[0]):
        return False
    return matches(shown[1:], printed[1:])


@dataclass(frozen=True)
class Played:
    """A block, and what its commands printed."""

    block: Block
    commands: tuple[Command, ...]

    @property
    def holds(self) -> bool:
        return not self.diff

    @property
    def diff(self) -> str:
        """How the page differs from what was printed; empty where it does not."""
        shown = commands_of(self.block)
        pairs = list(zip(shown, self.commands, strict=True))
        if all(matches(here.output, there.output) for here, there in pairs):
            return ""
        lines = difflib.unified_diff(
            [normal(line) for line in self.block.lines],
            [normal(line) for line in self.new_lines],
            f"{self.block.where} shows",
            "it printed",
            lineterm="",
            n=100,
        )
        return "\n".join(lines)

    @property
    def new_lines(self) -> list[str]:
        """The block as it should be: where a command's output holds, it stays as it is."""
        lines = []
        for here, there in zip(commands_of(self.block), self.commands, strict=True):
            output = here.output if matches(here.output, there.output) else there.output
            lines += [f"$ {here.text}", *output]
        return lines


def play(blocks: Sequence[Block], new_player: NewPlayer) -> list[Played]:
    """Play a page's blocks in their order. Raises PageError where the first names no scene."""
    played: list[Played] = []
    files: list[Block] = []
    player: Player | None = None
    try:
        for block in blocks:
            if "file" in block.directives:
                files.append(block)
                if player:
                    player.write(block.directives["file"], block.text)
            if not block.played:
                continue
            if "scene" in block.directives:
                if player:
                    player.close()
                player = new_player()
                for file in files:
                    player.write(file.directives["file"], file.text)
            if player is None:
                raise PageError(f"{block.where}: the page's first console block names no scene")
            for event in (*block.events("scene"), *block.events("then")):
                player.after(event)
            played.append(Played(block, _run(block, player)))
    finally:
        if player:
            player.close()
    return played


def _run(block: Block, player: Player) -> tuple[Command, ...]:
    return tuple(
        Command(command.text, tuple(player.run(command.text).splitlines()))
        for command in commands_of(block)
    )


def rewrite(page: Path, played: Sequence[Played]) -> bool:
    """Put what was printed into a page; whether that changes it."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for one in reversed(played):
        first = one.block.line - 1
        lines[first : first + len(one.block.lines)] = one.new_lines
    text = "".join(f"{line}\n" for line in lines)
    changed = text != page.read_text(encoding="utf-8")
    if changed:
        page.write_text(text, encoding="utf-8")
    return changed


def main(arguments: Sequence[str]) -> int:
    from tests.manualnode import ManualNode

    write = "--write" in arguments
    chosen = [Path(word).resolve() for word in arguments if word != "--write"]
    differing = 0
    for page in chosen or pages():
        played = play(blocks_of(page), ManualNode)
        for one in played:
            if not one.holds:
                differing += 1
                print(one.diff)
        if write and rewrite(page, played):
            print(f"wrote {page.relative_to(REPOSITORY)}")
    return 1 if differing and not write else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
