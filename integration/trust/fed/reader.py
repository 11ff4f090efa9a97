"""What one kind of input is read by, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parents[1] / "corpus"

Answer = dict[str, Any]


class Odd(Exception):
    """An input was read, and what was read of it contradicts itself."""


class Form(Enum):
    """How inputs are changed: by their structure, too, where they have one."""

    JSON = "json"
    YAML = "yaml"
    TEXT = "text"
    BYTES = "bytes"


@dataclass(frozen=True)
class Question:
    """To the Go program (golang/reader.go), about an input that was accepted here."""

    letter: str
    first: bytes
    second: bytes = b""
    # What is wrong with the answer; empty where nothing is.
    wrong: Callable[[Answer], str] = lambda answer: "" if answer["same"] else "read otherwise"
    may_refuse: bool = False  # Go may, where we accept

    def complaint(self, answer: Answer) -> str:
        if answer["error"]:
            return "" if self.may_refuse else f"accepted, and Go refuses it: {answer['error']}"
        return self.wrong(answer)


@dataclass(frozen=True)
class Reader:
    """One reader of the product."""

    name: str  # also of its corpus' directory
    what: str
    form: Form
    # Reads one input; raises nothing but what is declared.
    read: Callable[[bytes], list[Question]]
    declared: tuple[type[Exception], ...]
    share: int  # of a round's inputs: by how fast it is, and how much depends on it
    words: tuple[str, ...] = ()  # put in here and there

    def seeds(self) -> list[bytes]:
        """The corpus, always in the same order."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())]
