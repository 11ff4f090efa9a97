"""What a node's condition and Events say, by what its watcher sees. Pure: no I/O, no clock."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.watch.problems import PODS, RECORDS, UPLINKS, lines_of, problems_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.watch.status import Status

TYPE = "PodNetworkLost"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

# Reasons of the condition.
UPLINK_DOWN = "UplinkDown"  # and pods on it
PODS_LOST = "PodsLost"  # though their uplink is up
PODS_CONNECTED = "PodsConnected"
NOT_WATCHED = "NotWatched"
# Reasons of Events.
LOST = "PodNetworkLost"
HEALED = "PodNetworkHealed"
NOT_RESTORABLE = "PodNetworkNotRestorable"

_CONNECTED = "all pod interfaces that cni-repair knows have their network"
_STOPPED = "cni-repair watch was stopped: nobody looks"


@frozen
class Condition:
    """The condition, but for its times."""

    status: str
    reason: str
    message: str


@frozen
class Occurrence:
    """Something to be told once, as an Event."""

    reason: str
    message: str

    @property
    def kind(self) -> str:
        return "Normal" if self.reason == HEALED else "Warning"


@frozen
class Seen:
    """What a look is compared with."""

    is_lost: bool = False
    healed: int = 0  # pods, since the watcher began, of which an Event has told
    not_restorable: int = 0


STOPPED = Condition(UNKNOWN, NOT_WATCHED, _STOPPED)


def condition_of(status: Status) -> Condition | None:
    """The condition that a watcher's status amounts to; None while it has not looked at all."""
    if status["lastLook"] is None:
        return None
    problems = problems_in(status)
    lines = lines_of(problems, (PODS, UPLINKS))
    if not lines:
        return Condition(FALSE, PODS_CONNECTED, _CONNECTED)
    reason = PODS_LOST if problems.pods else UPLINK_DOWN
    return Condition(TRUE, reason, "; ".join(lines))


def compared(before: Seen, status: Status) -> tuple[Seen, list[Occurrence]]:
    """What has happened since a look, by a watcher's status; and what the next is compared with."""
    condition = condition_of(status)
    if condition is None:
        return before, []
    is_lost = condition.status == TRUE
    problems = problems_in(status)
    found = []
    if is_lost and not before.is_lost:
        found.append(Occurrence(LOST, condition.message))
    healed = status["heals"]["total"] - before.healed
    # All that is healed in one outage is one Event, at its end.
    is_over = not is_lost and (before.is_lost or healed > 0)
    if is_over:
        found.append(Occurrence(HEALED, _healed(healed, status["heals"]["lastOutageMs"])))
    if problems.records > before.not_restorable:
        found.append(Occurrence(NOT_RESTORABLE, "; ".join(lines_of(problems, (RECORDS,)))))
    told = before.healed + healed if is_over else before.healed
    return Seen(is_lost, told, problems.records), found


def _healed(count: int, outage_ms: int | None) -> str:
    if count <= 0:
        return "no pod interface is without its network any more"
    after = "" if outage_ms is None else f", the last after {outage_ms} ms"
    return f"{count} pod interface{'' if count == 1 else 's'} healed{after}"
