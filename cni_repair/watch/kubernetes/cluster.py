"""The cluster that the node belongs to, if it does: who tells it, by what the settings say."""

from __future__ import annotations

from cni_repair.base.errors import SYSTEM_ERRORS
from cni_repair.watch.kubernetes import kubeconfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.watch.kubernetes.outbox import Outbox
    from cni_repair.watch.kubernetes.reporter import Reporter
    from cni_repair.watch.status import Status, ToldCluster

_NOBODY: ToldCluster = {"node": "", "condition": None, "at": None, "trouble": ""}


class Cluster:
    """Told of the node's pods where there is a kubeconfig of the kubelet's; else nothing is done.

    It has a thread: make it after the last fork. `on_trouble` is called with what an operator has
    to know, by whoever calls us.
    """

    def __init__(self, wanted: str, on_trouble: Callable[[str], None]) -> None:
        """`wanted` is the setting: AUTO, NEVER, or the kubeconfig's path."""
        self._wanted = wanted
        self._on_trouble = on_trouble
        self._at_work: tuple[Reporter, Outbox] | None = None

    @property
    def told(self) -> ToldCluster:
        return _NOBODY if self._at_work is None else self._at_work[1].shown

    def change(self, wanted: str) -> None:
        """Go by another setting from now on."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._end()

    def observe(self, status: Status) -> None:
        """Take over a status document."""
        if self._at_work is None:
            # A node may join its cluster while it is watched.
            path = kubeconfig.in_force(self._wanted)
            if not path:
                return
            try:
                self._at_work = _begun(path)
            except (RuntimeError, *SYSTEM_ERRORS) as error:  # no thread is to be had, or no memory
                self._on_trouble(f"the API server is not told yet: {error}")
                return
        _, outbox = self._at_work
        outbox.observe(status)
        self._tell_troubles(outbox)

    def close(self) -> None:
        """Have the cluster told that nobody looks any more, where that takes a moment only."""
        reporter = self._end()
        if reporter is not None:
            reporter.join()

    def _end(self) -> Reporter | None:
        if self._at_work is None:
            return None
        (reporter, outbox), self._at_work = self._at_work, None
        outbox.end()
        self._tell_troubles(outbox)
        return reporter

    def _tell_troubles(self, outbox: Outbox) -> None:
        while outbox.troubles:
            self._on_trouble(outbox.troubles.popleft())


def _begun(path: str) -> tuple[Reporter, Outbox]:
    # Here: http.client takes 13 ms and 2 MB, and many nodes are of no cluster.
    from cni_repair.watch.kubernetes.outbox import Outbox
    from cni_repair.watch.kubernetes.reporter import Reporter

    outbox = Outbox()
    return Reporter(path, outbox), outbox
