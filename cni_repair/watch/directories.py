"""Records that come and go, and the watcher's own files: by inotify."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from inotify_simple import INotify, flags

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

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
        self._watched: dict[int, str] = {}
        self._wanted: tuple[str, ...] = ()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._inotify.fd, self._read)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._inotify.fd)
        self._inotify.close()

    def want(self, paths: Iterable[str]) -> None:
        """Watch these, and no others."""
        self._wanted = tuple(dict.fromkeys(paths))
        for wd, path in [*self._watched.items()]:
            if path not in self._wanted:
                self._forget(wd)
        self.look_for_missing()

    def look_for_missing(self) -> None:
        """Begin with those that exist by now. To be called now and then."""
        for path in self._wanted:
            if path not in self._watched.values():
                try:
                    self._watched[self._inotify.add_watch(path, _MASK)] = path
                except OSError:
                    continue  # not there yet; what is wrong with it, a look at it will say
                self._begin(path)

    def _forget(self, wd: int) -> None:
        self._watched.pop(wd, None)
        try:
            self._inotify.rm_watch(wd)
        except OSError:
            pass  # with its directory

    def _read(self) -> None:
        for event in self._inotify.read(timeout=0):
            path = self._watched.get(event.wd)
            if event.mask & flags.Q_OVERFLOW:
                for known in self._watched.values():
                    self._begin(known)
            elif path is None:
                continue
            elif event.mask & (_LOST | flags.IGNORED):
                self._forget(event.wd)
                self._begin(path)
            elif event.name:
                self._tell(path, os.fsdecode(event.name), bool(event.mask & _CAME))
