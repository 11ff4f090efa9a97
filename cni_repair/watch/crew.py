"""Tasks in children of the healer, as the daemon has them done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from cni_repair.watch.channel import MAX_LINE, encoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cni_repair.watch.healer import Healer

# How long a child may say nothing: at work on one pod after the other; and where it waits, as a
# repair does for locks for 45 s, and a heal for carrier for 30.
WORKING_SECONDS = 30.0
WAITING_SECONDS = 90.0


class TaskFailed(Exception):
    """A task did not end well: why, in words."""


class Task:
    """One child's work."""

    def __init__(
        self,
        healer: Healer,
        number: int,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._healer = healer
        self._number = number
        self._reader, self._writer = streams
        # How long it may say nothing; None: as long as it likes, since it waits for us.
        self.patience: float | None = WORKING_SECONDS
        self._heard_at = time.monotonic()

    def tell(self, document: Mapping[str, Any]) -> None:
        """Tell the child; its time begins anew."""
        self._heard_at = time.monotonic()
        self._writer.write(encoded(document))

    def kill(self) -> None:
        """End it, and what it has forked."""
        self._healer.kill(self._number)

    def end_if_overdue(self, now: float) -> None:
        """End it where it has said nothing for too long. Its end is not waited for: the kernel may
        not let go of it, or the healer may be stopped."""
        if self.patience is not None and now - self._heard_at > self.patience:
            why = f"it said nothing for {self.patience:g} s, and was ended"
            self._reader.set_exception(TaskFailed(why))
            self.kill()

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, until it is done. Raises TaskFailed where it dies, is ended, or says that
        it failed."""
        while True:
            document = await self._line()
            self._heard_at = time.monotonic()
            if document.get("done"):
                return
            if "failed" in document:
                raise TaskFailed(document["failed"])
            yield document

    async def _line(self) -> dict[str, Any]:
        try:
            line = await self._reader.readline()
        except (OSError, ValueError) as error:
            raise TaskFailed(f"its process cannot be heard: {error}") from error
        if line.endswith(b"\n"):
            document: dict[str, Any] = json.loads(line)
            return document
        raise TaskFailed("its process died")

    def close(self) -> None:
        """What has not ended by itself ends now."""
        self.kill()
        self._writer.close()


class Crew:
    """The healer's children."""

    def __init__(self, healer: Healer) -> None:
        self._healer = healer
        self._tasks: set[Task] = set()

    @contextlib.asynccontextmanager
    async def task(self, request: Mapping[str, Any]) -> AsyncIterator[Task]:
        """A task, begun; it has ended when the context does. Raises TaskFailed where no child can
        be had."""
        try:
            number, sock = self._healer.start()
            sock.setblocking(False)
            streams = await asyncio.open_connection(sock=sock, limit=MAX_LINE)
        except OSError as error:
            raise TaskFailed(f"no process can be started: {error}") from error
        task = Task(self._healer, number, streams)
        self._tasks.add(task)
        try:
            task.tell(request)
            yield task
        finally:
            self._tasks.discard(task)
            task.close()

    def end_overdue(self, now: float) -> None:
        """End what has said nothing for too long. To be called now and then."""
        for task in self._tasks:
            task.end_if_overdue(now)
