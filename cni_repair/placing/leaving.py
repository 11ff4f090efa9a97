"""A node that cni-repair leaves, once nothing needs it any more (`uninstall: "true"`).

Until then its pods are watched and healed as before, and the container's log says what still needs
the plugin. A runtime that finds no plugin could neither add nor delete these pods (multus #1105 and
#1429). Afterwards the container stays, and does nothing: one that ended would be started again.
"""

from __future__ import annotations

import os
import signal
import subprocess

from cni_repair.base.errors import CniError
from cni_repair.base.names import OWN_TYPE
from cni_repair.cli.printable import say
from cni_repair.cli.removal import Removal, in_the_way
from cni_repair.placing.prefix import PREFIX, Prefix, locked, running_from
from cni_repair.placing.runtimes import plugin_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Of runtimes that bring their own, besides those that `in_the_way` reads.
_CONF_DIRS = ("/var/lib/rancher/k3s/agent/etc/cni/net.d",)
_LOOK_SECONDS = 10.0
_STOP_SECONDS = 60.0
ENDS = frozenset({signal.SIGTERM, signal.SIGINT})


def is_gone() -> bool:
    """Whether no version, and no launcher that leads to one, is on this node."""
    return not Prefix().versions and not _launchers(Prefix())


class Leaving:
    """What the container does from its start until it is told to end."""

    def __init__(
        self, put: Callable[[], None], start_watch: Callable[[], subprocess.Popen[bytes]]
    ) -> None:
        """`put` puts a version on the node, of which `start_watch` starts the watcher, in a session
        of its own."""
        self._put = put
        self._start_watch = start_watch
        self._child: subprocess.Popen[bytes] | None = None
        self._said: list[str] = []

    def run(self) -> int:
        """Leave as soon as may be; then wait to be ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        try:
            if is_gone():
                _say("cni-repair is not on this node: nothing is to be taken away")
                return self._idle()
            self._put()
            while not self._leave():
                self._heal()
                if signal.sigtimedwait(ENDS, _LOOK_SECONDS):
                    return 0
            return self._idle()
        finally:
            self._stop()

    def _idle(self) -> int:
        signal.sigwait(ENDS)
        return 0

    def _leave(self) -> bool:
        """Whether cni-repair has gone."""
        try:
            needs = self._needs()
            if not needs:
                self._stop()
                self._remove()
                return True
        except (CniError, OSError) as error:
            needs = [str(error)]
        if needs != self._said:
            for line in needs:
                _say(f"not taken away: {line}")
            self._said = needs
        return False

    def _needs(self) -> list[str]:
        found = [*in_the_way(Removal(plugin=True, records=False), _CONF_DIRS)]
        own = {os.getpid(), self._child.pid if self._child else 0}
        for running in running_from(PREFIX / "versions", own):
            # (What the watcher has forked runs by the same name, and ends with it.)
            if not self._is_childs(running.pid):
                found.append(f"PID {running.pid} runs it ({running.command}): wait for its end")
        return found

    def _is_childs(self, pid: int) -> bool:
        try:
            return self._child is not None and os.getsid(pid) == self._child.pid
        except ProcessLookupError:
            return True

    def _remove(self) -> None:
        with locked() as prefix:
            launchers = _launchers(prefix)
            prefix.remove(launchers)
        _say(f"took cni-repair away: {', '.join(map(str, launchers))} and {PREFIX}")
        _say("its records in /var/lib/cni-repair are kept: who wants them gone removes them")

    # --- the watcher ---

    def _heal(self) -> None:
        if self._child is None or self._child.poll() is not None:
            self._child = self._start_watch()

    def _stop(self) -> None:
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None


def _launchers(prefix: Prefix) -> list[Path]:
    return prefix.launchers([plugin_directory().path / OWN_TYPE])


def _say(line: str) -> None:
    say(f"cni-repair-node: {line}")
