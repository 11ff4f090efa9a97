"""What the daemon tells of itself: its status file, metrics, the service manager, the journal."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from cni_repair.base import log
from cni_repair.base.errors import REFUSALS, TRY_AGAIN, CniError
from cni_repair.network.planning.plan import DEGRADED, FOREIGN, LOST, RELEASED
from cni_repair.node.report import UNREADABLE
from cni_repair.watch import journal
from cni_repair.watch.kubernetes.cluster import Cluster
from cni_repair.watch.metrics import Metrics
from cni_repair.watch.status import WRITE_SECONDS, Heals, Status, write_status
from cni_repair.watch.waiting import is_set_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_repair.watch.attachments import Attachment, Change
    from cni_repair.watch.notify import Notifier
    from cni_repair.watch.settings import Settings

# Changes come in crowds.
_SETTLE_SECONDS = 0.1
_MOST_TROUBLES = 1000
# States that no repair is tried in, so that nobody would tell of them.
_NEVER_TOUCHED = (FOREIGN, RELEASED, UNREADABLE)


class Telling:
    """Whatever happens is said here, once."""

    def __init__(self, settings: Settings, notifier: Notifier) -> None:
        self.settings = settings
        self.since = time.time()
        self.heals: Heals = {"total": 0, "failed": 0, "lastAt": None, "lastOutageMs": None}
        self._notifier = notifier
        self._troubles: set[str] = set()
        self._changed = asyncio.Event()
        self._metrics = Metrics(settings, self.trouble)
        self.cluster = Cluster(settings.kubeconfig, self.trouble)

    def change(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self.settings = settings
        self._metrics.reload(settings)
        self.cluster.change(settings.kubeconfig)

    def close(self) -> None:
        self._metrics.close()
        self.cluster.close()

    # --- What happens ---

    def saw(self, changes: Iterable[Change]) -> None:
        """Say what a look has found that was not so."""
        for change in changes:
            if change.is_news:
                if change.one.state == LOST:
                    journal.lost([change.one])
                elif change.one.state == DEGRADED:
                    journal.degraded(change.one)
                elif change.one.state in _NEVER_TOUCHED:
                    journal.refused(change.one)
        self.changed()

    def healed(self, one: Attachment, before: Attachment, restored_at: float | None) -> None:
        """A repair has brought it back; its traffic passes since `restored_at`, if it does."""
        outage = outage_ms = None
        if restored_at is not None and before.lost_at is not None:
            outage = max(0.0, restored_at - before.lost_at)
            outage_ms = round(outage * 1000)
        self._metrics.heal("healed", before.cause, outage)
        self.heals["total"] += 1
        self.heals["lastAt"] = time.time()
        self.heals["lastOutageMs"] = outage_ms
        journal.healed(one, before.cause, outage_ms)

    def not_healed(self, one: Attachment, code: int) -> None:
        """A repair of it has failed, or was not to be."""
        if code == TRY_AGAIN:
            return  # and so it is
        self._metrics.heal("refused" if code in REFUSALS else "failed", one.cause)
        self.heals["failed"] += 1
        kind: log.Kind = "refused" if code in REFUSALS else "failed"
        journal.of_one(kind, one, f"{one.title} was not healed: {one.reason}")

    def trouble(self, text: str) -> None:
        """Say it, once: what goes on failing is no news."""
        if text not in self._troubles:
            log.event("trouble", text)
        if len(self._troubles) > _MOST_TROUBLES:
            self._troubles.clear()
        self._troubles.add(text)

    # --- The status ---

    def changed(self) -> None:
        """The status is another."""
        self._changed.set()

    async def run(self, status: Callable[[], Status]) -> None:
        """Write the status whenever it has changed, and now and then; for ever."""
        while True:
            if await is_set_within(WRITE_SECONDS, self._changed):
                await asyncio.sleep(_SETTLE_SECONDS)
            self._changed.clear()
            self._write(status())

    def _write(self, status: Status) -> None:
        self._metrics.observe(status)
        self.cluster.observe(status)
        try:
            write_status(self.settings.run_dir, status)
        except CniError as error:
            self.trouble(str(error))
        self._notifier.status(summary(status))


def summary(status: Status) -> str:
    """The status in a line."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(status["attachments"].items()))
    return f"{status['mode']}: {states or 'no attachments'}"
