"""What the daemon tells: the journal, its status file, metrics, the service manager."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from cni_repair.base import log
from cni_repair.base.errors import REFUSALS, CniError
from cni_repair.network.planning.plan import DEGRADED, LOST
from cni_repair.watch.metrics import Metrics
from cni_repair.watch.status import WRITE_SECONDS, Status, write_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_repair.watch.attachments import Attachment, Change
    from cni_repair.watch.notify import Notifier
    from cni_repair.watch.policy import Mode
    from cni_repair.watch.settings import Settings

# Changes come in crowds.
_SETTLE_SECONDS = 0.1
_MOST_TROUBLES = 1000


class Telling:
    """Whatever happens is said here, once."""

    def __init__(self, settings: Settings, notifier: Notifier) -> None:
        self.settings = settings
        self.notifier = notifier
        self.since = time.time()
        self.healed_count = 0
        self.failed_count = 0
        self.last_healed_at: float | None = None  # Unix time
        self.last_outage_ms: int | None = None
        self._loop = asyncio.get_running_loop()
        self._troubles: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._metrics = Metrics(settings, self._trouble_of_thread)

    # --- The journal ---

    def mode(self, before: Mode, now: Mode) -> None:
        """Say that it heals again, or not any more, and why."""
        if now.heals and before.name:
            log.event("resumed", "pods are healed again")
        elif not now.heals:
            log.event("paused", f"no pod is healed: {now.reason}", REASON=now.reason)
        self.changed()

    def saw(self, changes: Iterable[Change]) -> None:
        """Say what a look has found that was not so."""
        for change in changes:
            one = change.one
            if one.state == change.before:
                continue
            if one.state == LOST:
                self.lost([one])
            elif one.state == DEGRADED:
                self._event("degraded", one, f"{one.title} is degraded: {one.reason}")
        self.changed()

    def lost(self, gone: Iterable[Attachment]) -> None:
        for one in gone:
            self._event("lost", one, f"{one.title} is lost: {one.reason}")
        self.changed()

    def uplink_lost(self, name: str, count: int) -> None:
        pods = f"{count} attachment{'' if count == 1 else 's'}"
        log.event("uplink-lost", f"{name} is gone, and with it {pods}", MASTER=name, COUNT=count)
        self.changed()

    def uplink_back(self, name: str, seconds: float) -> None:
        log.event("uplink-back", f"{name} is back after {seconds:.3g} s", MASTER=name)
        self.changed()

    def armed(self, uplink: str, count: int, total: int) -> None:
        log.event("armed", f"{count} of {total} pods over {uplink} are armed", MASTER=uplink)
        self.changed()

    def healed(self, change: Change, cause: str, restored_at: float | None) -> None:
        one = change.one
        outage = None
        if restored_at is not None and change.lost_at is not None:
            outage = max(0.0, restored_at - change.lost_at)
        self._metrics.heal("healed", cause, outage)
        self.healed_count += 1
        self.last_healed_at = time.time()
        self.last_outage_ms = None if outage is None else round(outage * 1000)
        after = "" if outage is None else f" after {self.last_outage_ms} ms"
        self._event("healed", one, f"{one.title} is healed{after}", cause, self.last_outage_ms)

    def refused(self, change: Change, cause: str, code: int) -> None:
        """A repair of it has failed, or was not to be."""
        self._metrics.heal("refused" if code in REFUSALS else "failed", cause)
        self.failed_count += 1
        one = change.one
        self._event("refused", one, f"{one.title} was not healed: {one.reason}", cause)

    def trouble(self, text: str) -> None:
        """Say it, once: what goes on failing is no news."""
        if not self._troubles[text]:
            log.event("trouble", text)
        if len(self._troubles) > _MOST_TROUBLES:
            self._troubles.clear()
        self._troubles[text] += 1

    def _trouble_of_thread(self, text: str) -> None:
        """As :meth:`trouble`, from the thread that serves metrics."""
        self._loop.call_soon_threadsafe(self.trouble, text)

    def _event(
        self,
        kind: log.Kind,
        one: Attachment,
        message: str,
        cause: str = "",
        outage_ms: int | None = None,
    ) -> None:
        log.event(
            kind,
            message,
            CNI_CONTAINERID=one.container_id,
            POD=one.pod,
            IFNAME=one.ifname,
            STATE=one.state,
            NETWORK=one.network,
            MASTER=one.chain[0] if one.chain else "",
            CAUSE=cause or one.cause,
            REASON=one.reason,
            OUTAGE_MS=outage_ms,
        )

    # --- The status ---

    def changed(self) -> None:
        """The status is another."""
        self._changed.set()

    async def run(self, status: Callable[[], Status]) -> None:
        """Write the status whenever it has changed, and now and then; for ever."""
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), WRITE_SECONDS)
            except asyncio.TimeoutError:
                pass
            else:
                await asyncio.sleep(_SETTLE_SECONDS)
            self._changed.clear()
            self._write(status())

    def change(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self.settings = settings
        self._metrics.reload(settings)

    def close(self) -> None:
        self._metrics.close()

    def _write(self, status: Status) -> None:
        self._metrics.observe(status)
        try:
            write_status(self.settings.run_dir, status)
        except CniError as error:
            self.trouble(str(error))
        self.notifier.status(summary(status))


def summary(status: Status) -> str:
    """The status in a line."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(status["attachments"].items()))
    return f"{status['mode']}: {states or 'no attachments'}"
