"""Metrics for Prometheus: as a file for node_exporter, and on a loopback port, where wanted."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import cni_repair
from cni_repair.base.log import event

if TYPE_CHECKING:
    from cni_repair.watch.exposition import Document, Exposition
    from cni_repair.watch.scraped import Server
    from cni_repair.watch.textfile import Textfile


_REMEDIES = {
    errno.EADDRINUSE: "free the port or change metrics.listen",
    errno.EACCES: "choose a port above 1023",  # the service has no CAP_NET_BIND_SERVICE
}


class Wanted(Protocol):
    """What the settings say of metrics."""

    @property
    def metrics_textfile(self) -> str: ...

    @property
    def metrics_listen(self) -> str: ...


def _tell(trouble: str) -> None:
    event("trouble", trouble)


class Metrics:
    """Tells Prometheus what the daemon sees and does.

    It has threads: make it after the last fork. `on_trouble` is called with what an operator has to
    know, by whoever calls us; nothing that goes wrong here stops the daemon.
    """

    def __init__(self, settings: Wanted, on_trouble: Callable[[str], None] = _tell) -> None:
        self._on_trouble = on_trouble
        self._troubles: deque[str] = deque()  # of the textfile's thread
        self._exposition: Exposition | None = None
        self._textfile: Textfile | None = None
        self._server: Server | None = None
        self._listen = ""
        self.reload(settings)

    def reload(self, settings: Wanted) -> None:
        """Serve as the settings say now; what was counted stays."""
        if self._exposition is None and (settings.metrics_textfile or settings.metrics_listen):
            # Here: prometheus_client takes 44 ms and 21 MB, and many have no Prometheus.
            from cni_repair.watch.exposition import Exposition

            self._exposition = Exposition(cni_repair.__version__)
        self._set_textfile(settings.metrics_textfile)
        self._set_listen(settings.metrics_listen)

    def observe(self, document: Document) -> None:
        """Take over a status document."""
        if self._exposition is not None:
            self._exposition.observe(document)
            self._changed()
            self._tell_troubles()

    def heal(self, result: str, trigger: str, outage_seconds: float | None = None) -> None:
        """Count the repair of an attachment; `outage_seconds` where one is over."""
        if self._exposition is not None:
            self._exposition.heal(result, trigger, outage_seconds)
            self._changed()

    def close(self) -> None:
        """The file stays: it says when somebody last looked."""
        if self._textfile is not None:
            self._textfile.close()
            self._tell_troubles()
        self._set_listen("")

    def _tell_troubles(self) -> None:
        while self._troubles:
            self._on_trouble(self._troubles.popleft())

    def _changed(self) -> None:
        if self._textfile is not None:
            self._textfile.changed()

    def _set_textfile(self, path: str) -> None:
        if path == (self._textfile.path if self._textfile else ""):
            return
        if self._textfile is not None:
            self._textfile.remove()
            self._textfile = None
            self._tell_troubles()
        if path:
            from cni_repair.watch.textfile import Textfile

            assert self._exposition is not None
            self._textfile = Textfile(path, self._exposition.text, self._troubles.append)
            self._textfile.changed()

    def _set_listen(self, listen: str) -> None:
        if listen == self._listen:
            return
        if self._server is not None:
            self._server.close()
            self._server = None
        # (Where it fails, the next reload tries again.)
        self._listen = listen if listen and self._serve(listen) else ""

    def _serve(self, listen: str) -> bool:
        from cni_repair.watch.scraped import Server

        assert self._exposition is not None
        host, _, port = listen.rpartition(":")
        try:
            self._server = Server(host.strip("[]"), int(port), self._exposition.text)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "correct metrics.listen")
            self._on_trouble(
                f"cannot serve metrics on {listen}: {error.strerror}; {remedy}, then systemctl"
                " reload cni-repair-watch"
            )
            return False
        return True
