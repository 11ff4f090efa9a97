"""Records that come and go, and the watcher's own files: by inotify."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from inotify_simple import INotify, flags

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from inotify_simple import Event

# Files are replaced by renaming, and taken away by it (a tombstone).
_CAME = flags.MOVED_TO | flags.CLOSE_WRITE
_WENT = flags.MOVED_FROM | flags.DELETE
_LOST = flags.DELETE_SELF | flags.MOVE_SELF
_MASK = _CAME | _WENT | _LOST | flags.ONLYDIR


class Directories:
    """Directories that are watched, each as soon as it exists."""

    def __init__(
        self,
        tell: Callable[[str, str, bool], None],
        begin: Callable[[str], None],
    ) -> None:
        """`tell` is called with the directory, the name of a file, and whether it came (it may have
        been there before) or went; `begin` with a directory of which nothing is known: it has just
        come to be watched, or news of it were lost."""
        self._tell = tell
        self._begin = begin
        self._inotify = INotify(nonblocking=True)
        # By path, the number of what is watched there. (Two paths may lead to one directory.)
        self._watched: dict[str, int] = {}
        self._wanted: tuple[str, ...] = ()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._inotify.fd, self._read)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._inotify.fd)
        self._inotify.close()

    def want(self, paths: Iterable[str]) -> None:
        """Watch these, and no others."""
        self._wanted = tuple(dict.fromkeys(paths))
        for path in [*self._watched]:
            if path not in self._wanted:
                self._forget(path)
        self.look_for_missing()

    def look_for_missing(self) -> None:
        """Begin with those that exist by now, or are other directories than they were: of a parent
        that was replaced, or of a mount, inotify tells nothing. To be called now and then."""
        for path in self._wanted:
            before, now = self._watched.get(path), self._watch(path)
            if now == before:
                continue
            self._forget(path)
            if now is not None:
                self._watched[path] = now
            self._begin(path)

    def _watch(self, path: str) -> int | None:
        """The number of the directory that is there; what is watched already keeps its own."""
        try:
            number: int = self._inotify.add_watch(path, _MASK)
        except OSError:
            return None  # not there yet; what is wrong with it, a look at it will say
        return number

    def _forget(self, path: str) -> None:
        number = self._watched.pop(path, None)
        if number is None or number in self._watched.values():
            return
        try:
            self._inotify.rm_watch(number)
        except OSError:
            pass  # with its directory

    def _read(self) -> None:
        for event in self._inotify.read(timeout=0):
            is_overflow = event.mask & flags.Q_OVERFLOW
            for path, number in [*self._watched.items()]:
                if is_overflow:
                    self._begin(path)
                elif number == event.wd:
                    self._heard(path, event)

    def _heard(self, path: str, event: Event) -> None:
        if event.mask & (_LOST | flags.IGNORED):
            self._forget(path)
            self._begin(path)
        elif event.name:
            self._tell(path, os.fsdecode(event.name), bool(event.mask & _CAME))
