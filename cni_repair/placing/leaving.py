"""A node that cni-repair leaves, once nothing needs it any more (`uninstall: "true"`).

Until then its pods are watched and healed as before, and the container's log says what still needs
the plugin. A runtime that finds no plugin could neither add nor delete these pods (multus #1105 and
#1429). With it goes the node's condition. Afterwards the container stays, and does nothing: one
that ended would be started again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess

from cni_repair.base.errors import CniError
from cni_repair.cli.removal import Removal, in_the_way
from cni_repair.placing import puts
from cni_repair.placing.gone import is_gone, launchers_of
from cni_repair.placing.program import PROGRAM, tell
from cni_repair.placing.puts import NotPlaced, Prefix
from cni_repair.watch.kubernetes.condition import TYPE
from cni_repair.watch.kubernetes.withdrawal import FAILURES, trouble_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Of runtimes that bring their own, besides those that `in_the_way` reads.
_CONF_DIRS = ("/var/lib/rancher/k3s/agent/etc/cni/net.d",)
_LOOK_SECONDS = 5.0
_STOP_SECONDS = 60.0
# Until an API server that could not be told is asked again: all nodes of a cluster may do so.
_WITHDRAW_SECONDS = 60.0
ENDS = frozenset({signal.SIGTERM, signal.SIGINT})


class Leaving:
    """What the container does from its start until it is told to end."""

    def __init__(
        self,
        prefix: Prefix,
        put: Callable[[], None],
        start_watch: Callable[[], subprocess.Popen[bytes]],
        withdraw: Callable[[], str],
    ) -> None:
        """`put` puts a version on the node, of which `start_watch` starts the watcher, in a session
        of its own. `withdraw` takes the watcher's condition from the node, and returns its name,
        empty where there is no condition."""
        self._prefix = prefix
        self._put = put
        self._start_watch = start_watch
        self._withdraw = withdraw
        self._is_withdrawn = False
        self._child: subprocess.Popen[bytes] | None = None
        self._said: list[str] = []

    def run(self) -> int:
        """Leave as soon as may be; then wait to be ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        try:
            if is_gone(self._prefix):
                tell("cni-repair is not on this node: nothing is to be taken away")
                self._take_condition()  # its container may have been ended before it was
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
        while not self._is_withdrawn:
            if signal.sigtimedwait(ENDS, _WITHDRAW_SECONDS * random.uniform(0.5, 1.0)):
                return 0
            self._take_condition()
        signal.sigwait(ENDS)
        return 0

    def _take_condition(self) -> None:
        """An API server that is not there keeps nobody from leaving."""
        try:
            node = self._withdraw()
        except FAILURES as error:
            self._say_once([f"{trouble_of(error)}; it is tried again while this container runs"])
            return
        self._is_withdrawn = True
        if node:
            tell(f"took the condition {TYPE} from the node {node}")

    def _leave(self) -> bool:
        """Whether cni-repair has gone."""
        try:
            needs = self._needs()
            if not needs:
                self._stop()
                self._take_condition()
                self._remove()
                return True
        except (CniError, NotPlaced, OSError) as error:
            needs = [str(error)]
        self._say_once([f"not taken away: {line}" for line in needs])
        return False

    def _say_once(self, lines: list[str]) -> None:
        if lines != self._said:
            for line in lines:
                tell(line)
            self._said = lines

    def _needs(self) -> list[str]:
        found = [*in_the_way(Removal(plugin=True, records=False), _CONF_DIRS)]
        for pid, command in puts.running(self._prefix.path).items():
            if not (self._is_own(pid) or _is_probe(command)):
                found.append(f"PID {pid} runs it ({command}): wait for its end, or stop it")
        return found

    def _is_own(self, pid: int) -> bool:
        """Whether it is this process, or what the watcher has forked, which ends with it."""
        own = {os.getpid(), self._child.pid if self._child else 0}
        try:
            return pid in own or os.getsid(pid) in own
        except ProcessLookupError:
            return True

    def _remove(self) -> None:
        with puts.locked(self._prefix):
            launchers = launchers_of(self._prefix)
            for launcher in launchers:
                launcher.unlink(missing_ok=True)
            puts.remove_prefix(self._prefix)
        tell(f"took cni-repair away: {', '.join(map(str, launchers))}, {self._prefix.path}")
        tell("its records in /var/lib/cni-repair are kept")

    # --- the watcher ---

    def _heal(self) -> None:
        if self._child is None or self._child.poll() is not None:
            self._child = self._start_watch()
            self._is_withdrawn = False

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


def _is_probe(command: str) -> bool:
    """Whether it is another process of this program: it has modules of its own, the image's."""
    return PROGRAM in map(os.path.basename, command.split())
