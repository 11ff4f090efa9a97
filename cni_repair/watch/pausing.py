"""A pause: somebody works on the node's network, and the watcher must not heal meanwhile.

It is a file in the run directory, so that it needs no watcher, outlives a restart of one, and ends
with the boot. Its end is a time of the boot's clock: a clock that is set moves nothing.
"""

from __future__ import annotations

from cni_repair.base.errors import IO, TRY_AGAIN, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint.locks import Lock
from cni_repair.upgrade.times import duration
from cni_repair.watch import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "watch.pause"
MOST_SECONDS = 24 * 3600.0
_LOCK = "watch.pause"
_LOCK_SECONDS = 5.0  # another `--pause` or `--resume` takes a moment


@frozen
class Pause:
    until: float  # seconds of the boot's clock
    by: str  # who asked for it, as people know them
    reason: str

    def seconds_left(self, now: float) -> float:
        return max(0.0, self.until - now)

    def words(self, now: float) -> str:
        """Why the watcher does not heal, and for how much longer."""
        left = duration(self.seconds_left(now))
        return f"paused by {self.by} for another {left}: {self.reason}"


class AlreadyPaused(CniError):
    """There is a pause that ends later: it is not cut short by asking for another."""


def read_pause(run_dir: str) -> Pause | None:
    """The pause that is in force; None where there is none, or it has ended, or was of an earlier
    boot. Raises CniError where nobody can tell."""
    document = rundir.read(run_dir, NAME)
    if document is None or document.get("bootId") != boot_id():
        return None
    pause = _pause_of(document, f"{run_dir}/{NAME}")
    return pause if pause.seconds_left(rundir.boot_time()) else None


def pause(run_dir: str, seconds: float, by: str, reason: str) -> Pause | None:
    """Pause for so long from now on; the pause that it prolongs, if there was one.

    Raises AlreadyPaused where one is in force that ends later, and CniError where it cannot be.
    """
    with _lock(run_dir):
        before = _readable(run_dir)
        now = rundir.boot_time()
        wanted = Pause(now + seconds, by, reason)
        if before is not None and before.until > wanted.until:
            raise AlreadyPaused(
                TRY_AGAIN,
                before.words(now),
                "that pause ends later; to have another: cni-repair watch --resume, then --pause",
            )
        document = {"bootId": boot_id(), "until": wanted.until, "by": by, "reason": reason}
        rundir.write(run_dir, NAME, document)
    return before


def resume(run_dir: str) -> Pause | None:
    """End the pause; the one that was in force, if any was. Raises CniError."""
    with _lock(run_dir):
        before = _readable(run_dir)
        rundir.remove(run_dir, NAME)
    return before


def _lock(run_dir: str) -> Lock:
    return Lock(run_dir, _LOCK, _LOCK_SECONDS)


def _readable(run_dir: str) -> Pause | None:
    """The pause in force; one that nobody can read is put right by being replaced."""
    try:
        return read_pause(run_dir)
    except CniError:
        return None


def _pause_of(document: dict[str, Any], path: str) -> Pause:
    until, by, reason = (document.get(key) for key in ("until", "by", "reason"))
    if not (
        isinstance(until, (int, float))
        and not isinstance(until, bool)
        and isinstance(by, str)
        and isinstance(reason, str)
    ):
        raise CniError(
            IO, f"{path} holds no pause", "cni-repair watch --resume removes it, and pauses nothing"
        )
    return Pause(float(until), by, reason)
