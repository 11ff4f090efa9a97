"""Telling systemd: sd_notify(3), one datagram; nothing where it did not ask for it."""

from __future__ import annotations

import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Twice in the time in which systemd expects one; a daemon beside it that is slow is not dead.
_BEATS = 3


class Notifier:
    """The service manager that started us, by the variables that it sets for that."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self.watchdog_seconds = _watchdog_seconds(environ) / _BEATS

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """Type=notify-reload needs the time; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """For WatchdogSec, every `watchdog_seconds`."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                pass  # a manager that cannot be told is no reason to stop


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """0 where systemd expects no sign of life, or of another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
