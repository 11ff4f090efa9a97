"""What waits to be told to the API server, between the daemon and the thread that tells it.

It never grows: one condition, the newest, and one Event of each reason.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque

from cni_repair.base.frozen import frozen
from cni_repair.watch.kubernetes.condition import Seen, compared, condition_of
from cni_repair.watch.kubernetes.pace import BackOff, Events, Told, condition_due

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.watch.kubernetes.condition import Condition
    from cni_repair.watch.kubernetes.pace import Series
    from cni_repair.watch.status import Status, ToldCluster

_MOST_TROUBLES = 100
_NEVER = math.inf
_NOBODY: ToldCluster = {"node": "", "condition": None, "at": None, "trouble": ""}


@frozen
class Work:
    """What is to be told now."""

    condition: Condition | None
    events: list[Series]
    is_last: bool = False  # nobody looks any more


class Outbox:
    """Every method may be called from every thread."""

    def __init__(self) -> None:
        self.troubles: deque[str] = deque(maxlen=_MOST_TROUBLES)
        self._lock = threading.Condition()
        self._wanted: Condition | None = None
        self._seen = Seen()
        self._events = Events()
        self._last: Told | None = None
        self._shown = _NOBODY
        self._condition_pause, self._events_pause = BackOff(), BackOff()
        self._is_ending = False

    # --- what the daemon puts in ---

    def observe(self, status: Status) -> None:
        """Take over a status document."""
        now = time.time()
        with self._lock:
            self._wanted = condition_of(status) or self._wanted
            self._seen, found = compared(self._seen, status)
            for occurrence in found:
                self._events.note(occurrence, now)
            self._lock.notify()

    def end(self) -> None:
        """Nobody looks any more."""
        with self._lock:
            self._is_ending = True
            self._lock.notify()

    @property
    def shown(self) -> ToldCluster:
        """What was told, for the status."""
        with self._lock:
            return {**self._shown}

    # --- what the thread takes out ---

    def next(self) -> Work:
        """Wait until there is something to be told."""
        with self._lock:
            while not self._is_ending:
                now = time.monotonic()
                condition_at, events_at = self._condition_due(), self._events_due()
                until = min(condition_at, events_at)
                if until <= now:
                    events = self._events.to_write(now) if events_at <= now else []
                    return Work(self._wanted if condition_at <= now else None, events)
                self._lock.wait(None if until == _NEVER else until - now)
            return Work(None, [], is_last=True)

    def _condition_due(self) -> float:
        if self._wanted is None:
            return _NEVER
        return max(condition_due(self._last, self._wanted), self._condition_pause.until)

    def _events_due(self) -> float:
        due = self._events.due()
        return _NEVER if due is None else max(due, self._events_pause.until)

    # --- what has become of it ---

    @property
    def has_told(self) -> bool:
        """Whether the server has a condition of ours."""
        return self._last is not None

    def told(self, condition: Condition, node: str) -> None:
        with self._lock:
            self._last = Told(condition, time.monotonic())
            self._condition_pause.went_well()
            self._shown = {
                "node": node, "condition": condition.status, "at": time.time(), "trouble": "",
            }  # fmt: skip

    def wrote(self, series: Series, name: str, count: int) -> None:
        with self._lock:
            self._events.written(series, name, count, time.monotonic())
            self._events_pause.went_well()

    def gone(self, series: Series) -> None:
        with self._lock:
            self._events.gone(series)

    def failed(self, why: str, is_of_events: bool) -> None:
        """It is tried again, later each time."""
        with self._lock:
            pause = self._events_pause if is_of_events else self._condition_pause
            pause.failed(time.monotonic(), random.random())
            self._shown = {**self._shown, "trouble": why}
        self.troubles.append(why)
