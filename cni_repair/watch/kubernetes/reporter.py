"""Tells the API server, in a thread of its own: one that is dead, slow or lies holds up nobody."""

from __future__ import annotations

import threading
import time
from urllib.parse import quote

from cni_repair.base.errors import SYSTEM_ERRORS, CniError
from cni_repair.watch.kubernetes import kubeconfig
from cni_repair.watch.kubernetes.client import Api, ApiError
from cni_repair.watch.kubernetes.condition import STOPPED
from cni_repair.watch.kubernetes.documents import (
    EVENTS_NAMESPACE,
    event_of,
    event_patch,
    status_patch,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.watch.kubernetes.condition import Condition
    from cni_repair.watch.kubernetes.outbox import Outbox
    from cni_repair.watch.kubernetes.pace import Series

_CALL_SECONDS = 10.0
_LAST_CALL_SECONDS = 1.0  # at the end nobody waits for longer; there are two calls
_CONFLICT, _NOT_FOUND = 409, 404
# None of them ends the thread: what the system refuses now, it may grant at the next try.
_FAILURES = (CniError, *SYSTEM_ERRORS)


class Reporter:
    """Tells of one node, by one kubeconfig, until the outbox says that it is over."""

    def __init__(self, path: str, outbox: Outbox) -> None:
        self._path = path
        self._outbox = outbox
        # A daemon: nothing ends a look-up of a name, which may take half a minute.
        self._thread = threading.Thread(target=self._run, name="kubernetes", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended, or has taken too long."""
        self._thread.join(2 * _LAST_CALL_SECONDS)

    def _run(self) -> None:
        while True:
            work = self._outbox.next()
            if work.is_last:
                if self._outbox.has_told:
                    self._tell(STOPPED, _LAST_CALL_SECONDS)
                return
            if work.condition is not None:
                self._tell(work.condition, _CALL_SECONDS)
            self._write(work.events)

    def _tell(self, condition: Condition, seconds: float) -> None:
        try:
            api = self._api(seconds)
            node = api.credential.node
            path = f"/api/v1/nodes/{quote(node, safe='')}"
            api.patch(f"{path}/status", status_patch(condition, api.get(path), time.time()))
        except _FAILURES as error:
            self._outbox.failed(str(error), is_of_events=False)
        else:
            self._outbox.told(condition, node)

    def _write(self, events: list[Series]) -> None:
        try:
            for series in events:
                self._write_one(self._api(_CALL_SECONDS), series)
        except _FAILURES as error:
            self._outbox.failed(str(error), is_of_events=True)

    def _write_one(self, api: Api, series: Series) -> None:
        events = f"/api/v1/namespaces/{EVENTS_NAMESPACE}/events"
        name, document = series.name, event_of(series, api.credential.node)
        try:
            if name:
                api.patch(f"{events}/{quote(name, safe='')}", event_patch(document))
            else:
                api.post(events, document)
        except ApiError as error:
            if name and error.status == _NOT_FOUND:
                self._outbox.gone(series)
                return
            # It is there: the answer to the same request was lost.
            if name or error.status != _CONFLICT:
                raise
        self._outbox.wrote(series, document["metadata"]["name"], document["count"])

    def _api(self, seconds: float) -> Api:
        return Api(kubeconfig.read(self._path), seconds)
