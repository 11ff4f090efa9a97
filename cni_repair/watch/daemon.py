"""`cni-repair watch`: the daemon, from its start to its end."""

from __future__ import annotations

import gc
import os
import signal

from cni_repair.base import log
from cni_repair.base.errors import CONFIG, CniError
from cni_repair.base.frozen import replace
from cni_repair.watch.healer import Healer
from cni_repair.watch.leash import Leash
from cni_repair.watch.settings import NEVER, settings_in_force
from cni_repair.watch.status import first_watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.locks import Lock
    from cni_repair.watch.settings import Settings


def run(settings: Settings, no_kubernetes: bool = False) -> int:
    """Watch until a signal ends it: 0; or until it cannot go on: 1.

    `no_kubernetes`: no API server is told, whatever the settings say.
    Raises CniError where another watcher is at work (NotFirst), or its lock cannot be had.
    """
    # First: children are forked from what is in memory now, and from no thread.
    healer = Healer(Leash())
    gc.enable()
    with first_watcher(settings.run_dir) as first:
        import asyncio

        log.use_stderr()
        settings = _limited(settings, no_kubernetes)
        return asyncio.run(_watch(settings, healer, first, no_kubernetes))


def _limited(settings: Settings, no_kubernetes: bool) -> Settings:
    return replace(settings, kubeconfig=NEVER) if no_kubernetes else settings


def _read_again(settings: Settings, no_kubernetes: bool) -> Settings:
    """What the file says now; where there was none at the start, there may be one by now."""
    fresh = _limited(settings_in_force(settings.path or None), no_kubernetes)
    if fresh.run_dir != settings.run_dir:
        raise CniError(
            CONFIG,
            f"runDir cannot change from {settings.run_dir} to {fresh.run_dir} while it runs",
            "systemctl restart cni-repair-watch",
        )
    return fresh


async def _watch(settings: Settings, healer: Healer, first: Lock, no_kubernetes: bool) -> int:
    import asyncio

    from cni_repair.watch.notify import Notifier
    from cni_repair.watch.watcher import Watcher

    notifier = Notifier(os.environ)
    watcher = Watcher(settings, healer, notifier, first)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def reload() -> None:
        notifier.reloading()
        try:
            watcher.change(_read_again(settings, no_kubernetes))
        except CniError as error:
            log.event("trouble", f"the old configuration stays: {error}", REASON=str(error))
        else:
            log.event("reloaded", "the configuration was read again")
        notifier.ready()

    loop.add_signal_handler(signal.SIGHUP, reload)
    log.event("started", "the node is watched", PID=os.getpid())
    work = asyncio.create_task(watcher.run())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
    notifier.stopping()
    for task in (work, stopped):
        task.cancel()
    error, _ = await asyncio.gather(work, stopped, return_exceptions=True)
    if isinstance(error, CniError):
        log.event("trouble", str(error), REASON=str(error))
    elif isinstance(error, Exception):
        raise error
    log.event("stopped", "the node is not watched any more")
    return int(isinstance(error, CniError))
