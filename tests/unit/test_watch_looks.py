"""Looks, and what a pod that ends them does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cni_repair.watch.attachments import Attachments
from cni_repair.watch.crew import Crew, TaskFailed
from cni_repair.watch.looks import LOOK, Looks
from cni_repair.watch.telling import Telling
from tests.unit.test_watch_attachments import line


class CrewOf:
    """Children that end at a pod named `bad`."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    @asynccontextmanager
    async def task(self, request: Mapping[str, Any]) -> AsyncIterator[SimpleNamespace]:
        self.asked.append(request["files"])

        async def lines() -> AsyncIterator[dict[str, Any]]:
            for file in request["files"]:
                if file.startswith("bad"):
                    raise TaskFailed("it hung")
                yield line(file.partition("@")[0])

        yield SimpleNamespace(lines=lines)


def looks_of(crew: object, known: Attachments) -> Looks:
    settings = SimpleNamespace(remember_after=1.0, look_every=1.0)
    telling = SimpleNamespace(settings=settings, trouble=lambda _: None)
    return Looks(cast(Crew, crew), known, cast(Telling, telling), changed=lambda _: None)


@pytest.mark.parametrize("name", ["good", "bad"])
def test_directory_that_is_watched_no_more_is_not_brought_back(tmp_path: Path, name: str) -> None:
    """By a look that was at work when the configuration was read again."""
    known = Attachments()
    directory, file = str(tmp_path), f"{name}@eth0.json"
    (tmp_path / file).touch()

    class Reloaded(CrewOf):
        def task(self, request: Mapping[str, Any]) -> Any:
            known.keep_directories(["/others"])
            return super().task(request)

    asyncio.run(looks_of(Reloaded(), known).task(LOOK, directory, [file]))
    assert len(known) == 0


def test_what_failed_comes_last_the_next_time(tmp_path: Path) -> None:
    """A look waits for what hangs: the others are not to wait with it again."""
    crew = CrewOf()
    files = [f"{name}@eth0.json" for name in ("bad", "good", "well")]
    for file in files:
        (tmp_path / file).touch()
    looks = looks_of(crew, Attachments())
    for _ in range(2):
        asyncio.run(looks.task(LOOK, str(tmp_path), files))
    bad, *others = files
    assert crew.asked == [files, others, [*others, bad]]
