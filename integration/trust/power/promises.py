"""What must be on a disk after a cut, given what was promised before it. Pure but for reading."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from typing import Any

from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import COMMITTED, DELETING, INTENT, Store
from integration.trust.power.workload import Step

_PHASES = (COMMITTED, INTENT, DELETING)


class Promises:
    """By the steps that had ended, and the one that was at work when the power went."""

    def __init__(self, steps: list[Step], marks: Iterable[dict[str, Any]]) -> None:
        done = begun = -1
        for document in marks:
            done, begun = document.get("done", done), document.get("begun", begun)
        had = [_decoded(step.checkpoints) for step in steps]
        self.done = done
        self._kept = had[done] if done >= 0 else {}
        self._coming = had[begun] if begun > done else None
        # What a file may have been at any time until now.
        self._known: dict[str, set[bytes]] = {}
        for files in had[: max(done, begun) + 1]:
            for name, content in files.items():
                self._known.setdefault(name, set()).add(content)

    def pods(self) -> list[str]:
        """Of which the runtime still knows, and which it takes away on the next boot."""
        names = {*self._kept, *(self._coming or ())}
        return sorted(name.partition("@")[0] for name in names)

    def broken(self, store: Store | None) -> Iterator[str]:
        """What of a checkpoint directory (None: it is not there) is not as it was promised."""
        found = _contents(store) if store else {}
        yield from self._lost(found)
        for name, content in found.items():
            yield from self._unknown(name, content)
        for entry in inventory.read_all(store, None) if store else ():
            if entry.checkpoint is None:
                yield f"{entry.file} cannot be read: {entry.error}"

    def _lost(self, found: dict[str, bytes]) -> Iterator[str]:
        """No acknowledged record may be gone, or older than it was said to be."""
        for name, content in self._kept.items():
            allowed = [content]
            if self._coming is not None:
                if name not in self._coming:  # it is just being deleted
                    continue
                allowed.append(self._coming[name])
            if name not in found:
                yield f"{name} is gone"
            elif found[name] not in allowed:
                yield f"{name} is not what was acknowledged, but {_shown(found[name])}"

    def _unknown(self, name: str, content: bytes) -> Iterator[str]:
        """Whatever is believed must be whole: nothing but what was once written by its name."""
        stem = next((name.removesuffix(end) for end in _PHASES if name.endswith(end)), None)
        if name.startswith(".") and name.endswith(".tmp"):
            return  # nobody believes it
        if stem is None:
            yield f"{name}: nobody has written a file of that name"
        elif name.endswith(INTENT):
            if not content.endswith(b"}"):
                yield f"{name} is torn: {_shown(content)}"
        elif content not in self._known.get(stem + COMMITTED, ()):
            yield f"{name} is torn: {_shown(content)}"


def _decoded(files: dict[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(content) for name, content in files.items()}


def _contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in sorted(os.listdir(store.fd))}


def _shown(content: bytes) -> str:
    return f"{len(content)} bytes, {content[:60]!r}"
