"""When the watcher heals, and when it leaves be. Pure: no I/O, and every time is handed in.

Times are seconds of one clock that never goes back (time.monotonic()).
"""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.network.planning.plan import DEGRADED, LOST
from cni_repair.watch import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

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


class Restraint:
    """How often uplinks are healed, and which pods are not tried.

    The first heal comes at once. From then on each waits twice as long after the one before it as
    that did, between `first` and `most` seconds. After `most` calm seconds that is forgotten.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._uplinks: dict[str, _Uplink] = {}
        self._refused: dict[Hashable, Hashable] = {}

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
        return max(0.0, known.healed + known.wait - now) if known.wait else 0.0

    def _known(self, name: str, now: float) -> _Uplink:
        known = self._uplinks.get(name)
        if known is None or known.is_calm(now, self._most):
            return _Uplink(healed=now, wait=0.0, lost=now)
        return known

    def refused(self, key: Hashable, mark: Hashable) -> None:
        """Note that a pod was refused; `mark` is what has to change before it is tried again: its
        record's file, its state, what was found."""
        self._refused[key] = mark

    def accepted(self, key: Hashable) -> None:
        """Note that a pod was healed, or is well."""
        self._refused.pop(key, None)

    def may_try(self, key: Hashable, mark: Hashable) -> bool:
        """Whether a pod was not refused, or has changed since."""
        return key not in self._refused or self._refused[key] != mark

    def keep(self, keys: Collection[Hashable], names: Collection[str]) -> None:
        """Forget every pod and every uplink but these: the others are no more."""
        self._refused = {key: mark for key, mark in self._refused.items() if key in keys}
        self._uplinks = {name: known for name, known in self._uplinks.items() if name in names}

    def change(self, first: float, most: float) -> None:
        """Go by other settings from now on; what is waited for already stays."""
        self._first = first
        self._most = most

    @property
    def refusals(self) -> Collection[Hashable]:
        """The pods that were refused, and are not tried until they change."""
        return self._refused.keys()
