"""When the watcher heals, and when it leaves be. Pure: no I/O, and every time is handed in.

Times are seconds of one clock that never goes back (time.monotonic()).
"""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.network.planning.plan import DEGRADED, LOST
from cni_repair.watch import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

# What the watcher does at the moment.
HEALING = "healing"
LOOKING = "looking"  # heal: off
PAUSED = "paused"
UPGRADING = "upgrading"

# Why a pod would be healed now.
UPLINK = "uplink"  # its uplink is back
START = "start"  # the watcher was not there to see what happened
DRIFT = "drift"  # it was found so, and no uplink had to do with it


@frozen
class Mode:
    name: str  # HEALING, LOOKING, PAUSED or UPGRADING
    reason: str  # in words; empty while healing

    @property
    def heals(self) -> bool:
        return self.name == HEALING


def mode_of(heal: str, is_upgrading: bool, why_paused: str) -> Mode:
    """The mode that a node is in: an upgrade heals its pods itself; what people ask for comes
    before what a file says. `why_paused` is empty where nobody paused."""
    if is_upgrading:
        return Mode(UPGRADING, "cni-repair upgrade is at work, and repairs the pods itself")
    if why_paused:
        return Mode(PAUSED, why_paused)
    if heal == settings.OFF:
        return Mode(LOOKING, "heal: off in its configuration")
    return Mode(HEALING, "")


def is_wanted(heal: str, cause: str, state: str) -> bool:
    """Whether a pod in that state is to be healed, for that cause, by that setting of `heal`."""
    if heal == settings.OFF or state not in (LOST, DEGRADED):
        return False
    return cause != DRIFT or heal == settings.DRIFT


@frozen
class _Uplink:
    """How often an uplink was healed lately."""

    healed: float  # when, the last time
    wait: float  # from then to the next heal; 0: it was not healed lately
    lost: float  # when, the last time

    def is_calm(self, now: float, seconds: float) -> bool:
        """Whether nothing happened for so long, beyond the time that a heal had to wait."""
        return now - max(self.lost, self.healed + self.wait) >= seconds


@frozen
class _Refusal:
    """What has to change before a pod is tried again, and why it was refused."""

    record: Hashable
    reason: str  # never empty
    seen: Hashable | None  # None: no look has seen it since


class Restraint:
    """How often uplinks are healed, and which pods are not tried.

    The first heal comes at once. From then on each waits twice as long after the one before it as
    that did, between `first` and `most` seconds. After `most` calm seconds that is forgotten.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._uplinks: dict[str, _Uplink] = {}
        self._refused: dict[Hashable, _Refusal] = {}

    def uplink_lost(self, name: str, now: float) -> None:
        """Note that an uplink went away."""
        self._uplinks[name] = replace(self._known(name, now), lost=now)

    def healed(self, name: str, now: float) -> None:
        """Note that an uplink's pods were healed, or that this was tried."""
        known = self._known(name, now)
        wait = min(2 * known.wait, self._most) if known.wait else self._first
        self._uplinks[name] = _Uplink(healed=now, wait=wait, lost=known.lost)

    def may_heal(self, name: str, now: float) -> float:
        """The seconds until an uplink's pods may be healed; 0.0: now."""
        known = self._known(name, now)
        return max(0.0, known.healed + known.wait - now)

    def _known(self, name: str, now: float) -> _Uplink:
        known = self._uplinks.get(name)
        if known is None or known.is_calm(now, self._most):
            return _Uplink(healed=now, wait=0.0, lost=now)
        return known

    def refused(self, key: Hashable, record: Hashable, reason: str) -> None:
        """Note that a pod was refused. It is not tried again before its record is another, or a
        look sees something else than the first look from now on does (a repair that fails says more
        of a pod than a look)."""
        self._refused[key] = _Refusal(record, reason, None)

    def looked(self, key: Hashable, record: Hashable, seen: Hashable) -> None:
        """Note what a look has seen of a pod: its state, and what was found."""
        refusal = self._refused.get(key)
        if refusal is not None and refusal.record == record and refusal.seen is None:
            self._refused[key] = replace(refusal, seen=seen)
        elif self.why_not(key, record, seen) == "":
            self._refused.pop(key, None)

    def why_not(self, key: Hashable, record: Hashable, seen: Hashable) -> str:
        """Why a pod is not tried, as it is now; empty where it may be."""
        refusal = self._refused.get(key)
        if refusal is None or refusal.record != record or refusal.seen not in (None, seen):
            return ""
        return refusal.reason

    def reconsider(self, key: Hashable) -> None:
        """Something about a pod has changed that no look need see: its uplink is another one."""
        self._refused.pop(key, None)

    def forget(self, key: Hashable, name: str) -> None:
        """A pod is no more; `name` is what its heals waited by, where it was tried on its own."""
        self.reconsider(key)
        self._uplinks.pop(name, None)

    def change(self, first: float, most: float) -> None:
        """Go by other settings from now on; what is waited for already stays."""
        self._first = first
        self._most = most
