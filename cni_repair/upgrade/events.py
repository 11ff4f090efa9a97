"""The events of an upgrade at work: kept in its journal, and told as they come."""

from __future__ import annotations

from cni_repair.upgrade.log import log_event
from cni_repair.upgrade.progress import progress_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.upgrade.journal import Event, Journal
    from cni_repair.upgrade.progress import Progress


class Events:
    """Those up to now, and each further one."""

    def __init__(
        self, journal: Journal, before: list[Event], on_progress: Callable[[Event], None]
    ) -> None:
        """`before`: the journal's up to now, to which the further ones are added; `on_progress`
        gets each of them."""
        self._journal = journal
        self._events = before
        self._on_progress = on_progress

    @property
    def progress(self) -> Progress:
        """How far the upgrade has come."""
        return progress_of(self._events)

    def add(self, kind: str, durable: bool = True, **more: Any) -> None:
        """Something happened."""
        self._happened(self._journal.append({"event": kind, **more}, durable))

    def commit(self, kind: str, **more: Any) -> None:
        """An event that a resume builds on: what follows is done only if it is on disk."""
        self._happened(self._journal.commit({"event": kind, **more}))

    def say(self, text: str) -> None:
        """A word for people."""
        self.add("word", durable=False, text=text)

    def _happened(self, event: Event) -> None:
        self._events.append(event)
        self._on_progress(event)
        log_event(event)
