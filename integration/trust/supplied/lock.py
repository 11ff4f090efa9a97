"""conf/requirements.lock: what it pins, read as pip reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from integration.command import CHECKOUT

LOCK = CHECKOUT / "conf" / "requirements.lock"

_PIN = re.compile(r"([a-z0-9][a-z0-9.-]*)==([^ ;]+)(?: ; .+)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """One requirement of the lock."""

    text: str  # without its hashes
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.text.partition("==")[0]

    @property
    def version(self) -> str:
        return re.split("[ ;]", self.text.partition("==")[2])[0]

    @property
    def trouble(self) -> str:
        """Why pip could take something else for it; empty where it could not."""
        if not _PIN.fullmatch(self.text):
            return "it is not pinned to one version"
        if not self.hashes or not all(map(_HASH.fullmatch, self.hashes)):
            return "it has no SHA-256, or something else beside them"
        return ""


def pins() -> list[Pin]:
    """All of the lock."""
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    found = []
    for entry in "\n".join(lines).replace("\\\n", "").splitlines():
        what, *hashes = re.split(r" +(?=--)", entry.strip())
        found.append(Pin(what, tuple(hashes)))
    return found
