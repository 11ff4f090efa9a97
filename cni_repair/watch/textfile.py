"""The file that node_exporter's textfile collector reads: it survives a dead daemon, opens no port.

Written by a thread of its own: a file system that is frozen for a backup, or a server that is away,
must not stop the daemon.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from cni_repair.base.files import replace_whole, unlink_if_there

# node_exporter is another user.
_MODE = 0o644
# Whatever happens within this time is one write: pods come and go by the hundred.
_GAP_SECONDS = 0.2
_AGAIN_SECONDS = 10.0
_LAST_SECONDS = 2.0


class Textfile:
    """Keeps a file as `text` has it. Trouble is told once, until it ends or changes."""

    def __init__(
        self, path: str, text: Callable[[], bytes], on_trouble: Callable[[str], None]
    ) -> None:
        self.path = path
        self._text = text
        self._on_trouble = on_trouble
        self._told = ""
        self._last: Callable[[], object] = self._write
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Have it written soon; does not wait."""
        self._changed.set()

    def close(self) -> None:
        """Write what is still to be written, if the disk lets us; the file stays."""
        self._end(self._write)

    def remove(self) -> None:
        """Close it, and remove the file: node_exporter would go on telling what it says."""
        self._end(self._remove)

    def _end(self, last: Callable[[], object]) -> None:
        self._last = last
        self._closing.set()
        self._changed.set()
        self._thread.join(_LAST_SECONDS)  # a disk that hangs is not waited for

    def _run(self) -> None:
        wait: float | None = None
        while not self._closing.is_set():
            self._changed.wait(wait)
            self._changed.clear()
            wait = None if self._write() else _AGAIN_SECONDS
            self._closing.wait(_GAP_SECONDS)
        self._last()

    def _write(self) -> bool:
        try:
            write(self.path, self._text())
        except OSError as error:
            self._tell(f"cannot write {self.path}: {error.strerror}; {_remedy(error, self.path)}")
            return False
        self._told = ""
        return True

    def _remove(self) -> None:
        try:
            unlink_if_there(self.path)
        except OSError as error:
            self._tell(f"cannot remove {self.path}: {error.strerror}; remove it yourself")

    def _tell(self, message: str) -> None:
        if message != self._told:
            self._told = message
            self._on_trouble(message)


_REMEDIES = {
    errno.ENOENT: "make the directory {directory}, or correct metrics.textfile",
    errno.ENOTDIR: "{directory} is no directory: correct metrics.textfile",
    errno.EISDIR: "a directory has that name: remove it, or correct metrics.textfile",
    # As a service it may write to what is root's, and in places that its unit names.
    errno.EACCES: "chown root {directory}",
    errno.EROFS: "systemctl edit cni-repair-watch: [Service] ReadWritePaths={directory}",
    errno.ENOSPC: "make room there: until then Prometheus sees what was written before",
}
_OTHERWISE = "put that right: until then Prometheus sees what was written before"


def _remedy(error: OSError, path: str) -> str:
    remedy = _REMEDIES.get(error.errno or 0, _OTHERWISE)
    return remedy.format(directory=os.path.dirname(path))


def write(path: str, data: bytes) -> None:
    """Replace the file as a whole, readable for all.

    Its directory may be reached by a symbolic link, which is the administrator's; the file may not:
    a link of that name is replaced.
    """
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        replace_whole(fd, name, data, _MODE)
    finally:
        os.close(fd)
