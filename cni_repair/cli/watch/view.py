"""What `watch --status` shows: one screen of a serial console, the pods' states first. Pure."""

from __future__ import annotations

from cni_repair.base.columns import Row, table_of
from cni_repair.base.names import short_id
from cni_repair.cli.printable import one_line
from cni_repair.upgrade.times import clock, duration
from cni_repair.watch.policy import HEALING
from cni_repair.watch.status import DEAD, HUNG, NONE, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.watch.pausing import Pause
    from cni_repair.watch.status import Standing

_MOST_MASTERS = 6
_MOST_REFUSED = 4
_MASTERS = ("MASTER", "STATE", "PODS", "ARMED")
_WRONG_FIRST = ("lost", "degraded", "foreign", "released", "unreadable", "renamed", "stale")
_START = "systemctl start cni-repair-watch; why it ended: journalctl -u cni-repair-watch -n 20"
_RESTART = "systemctl restart cni-repair-watch; why: journalctl -u cni-repair-watch -n 20"


def lines(standing: Standing, pause: Pause | None, now: float, boot_now: float) -> Iterator[str]:
    """The screen; `now` is Unix time, `boot_now` the boot's clock."""
    yield from _not_running(standing)
    if standing.document is not None:
        yield _states(standing.document)
        yield from _how_it_stands(standing, pause, now, boot_now)
        yield from _masters(standing.document["masters"], now)
        yield from _refused(standing.document["refused"])
    elif pause is not None:
        yield pause.words(boot_now)


def _not_running(standing: Standing) -> Iterator[str]:
    """What comes before all else: nothing is healed."""
    if standing.name == NONE:
        yield "watch: does not run, and has not since this boot: nothing is healed by itself"
        yield "  next: systemctl start cni-repair-watch (install.sh --watch installs it)"
    elif standing.name == DEAD:
        yield f"watch: DEAD: nothing is healed by itself; {_last_seen(standing)}"
        yield f"  next: {_START}"
    elif standing.name == HUNG:
        silent = duration(standing.seconds_old)
        yield f"watch: HANGS: not heard of for {silent}; {_last_seen(standing)}"
        yield f"  next: {_RESTART}"
    elif standing.document is None:
        yield "watch: just started: it has not looked yet"


def _last_seen(standing: Standing) -> str:
    return "what it saw last:" if standing.document else "it had seen nothing yet"


def _states(status: dict[str, Any]) -> str:
    counts = status["attachments"]
    total = sum(counts.values())
    order = [*_WRONG_FIRST, "healthy"]
    known = [state for state in order if counts.get(state)]
    each = ", ".join(f"{counts[state]} {state}" for state in known)
    return f"{total} attachment{'' if total == 1 else 's'}{': ' if each else ''}{each}"


def _how_it_stands(
    standing: Standing, pause: Pause | None, now: float, boot_now: float
) -> Iterator[str]:
    status = standing.document
    assert status is not None
    if standing.name == RUNNING:
        yield f"watch: {_mode(status, pause, boot_now)}"
        yield f"  since {clock(status['since'])} (PID {status['pid']}), {_look(status, now)}"
    heals = status["heals"]
    if heals["total"]:
        yield f"  heals: {_heals(heals)}"
    kubelet = status["kubelet"]
    if kubelet["held"]:
        yield f"  kubelet is held{_since(kubelet['since'], now)}"
    coverage = status["coverage"]
    less = coverage["restorable"] < coverage["interfaces"]
    if status["unmanaged"] or less:
        yield (
            f"  restorable: {coverage['restorable']} of {coverage['interfaces']} pod interfaces"
            " (cni-repair snapshot --check names the others)"
        )


def _mode(status: dict[str, Any], pause: Pause | None, boot_now: float) -> str:
    if pause is not None:  # what is in force now, should the daemon not have seen it yet
        return one_line(pause.words(boot_now))
    if status["mode"] == HEALING:
        what = {"drift": "whatever a pod loses"}.get(status["heal"], "what an uplink takes with it")
        return f"heals {what} (heal: {status['heal']})"
    return f"{status['mode']}, heals nothing: {one_line(status['reason'])}"


def _look(status: dict[str, Any], now: float) -> str:
    if status["lastLook"] is None:
        return "has not looked at all pods yet"
    return f"all pods looked at {duration(now - status['lastLook'])} ago"


def _heals(heals: dict[str, Any]) -> str:
    words = str(heals["total"])
    if heals["failed"]:
        words += f", {heals['failed']} of them not whole"
    if heals["lastAt"] is not None:
        words += f"; the last {clock(heals['lastAt'])}"
    if heals["lastOutageMs"] is not None:
        words += f", after {heals['lastOutageMs']} ms"
    return words


def _since(at: float | None, now: float) -> str:
    return "" if at is None else f" for {duration(now - at)}"


def _masters(masters: list[dict[str, Any]], now: float) -> Iterator[str]:
    """Those that something is wrong with first; a node has few, but for its VLANs."""
    if not masters:
        return
    ordered = sorted(masters, key=lambda one: (_state(one, now) == "up", one["name"]))
    shown = ordered[:_MOST_MASTERS]
    rows = [
        Row(one_line(one["name"]), (_state(one, now), str(one["attachments"]), str(one["armed"])))
        for one in shown
    ]
    yield from (line.text for line in table_of(_MASTERS, rows))
    if len(ordered) > len(shown):
        yield f"… and {_more(len(ordered) - len(shown), ordered[len(shown) :], now)} (-o json: all)"


def _more(count: int, rest: list[dict[str, Any]], now: float) -> str:
    wrong = sum(_state(one, now) != "up" for one in rest)
    return f"{count} more" + (f", {wrong} of them not up" if wrong else ", all up")


def _state(master: dict[str, Any], now: float) -> str:
    if master["awaySince"] is not None:
        return f"away for {duration(now - master['awaySince'])}"
    if not master["up"]:
        return "down"
    return "up" if master["carrier"] else "no carrier"


def _refused(refused: list[dict[str, Any]]) -> Iterator[str]:
    if not refused:
        return
    yield "refused, and not tried again until something about them changes:"
    for one in refused[:_MOST_REFUSED]:
        pod = one_line(one["pod"]) or short_id(one["containerID"])
        yield f"  {one['state']} {pod} {one_line(one['ifname'])}: {one_line(one['reason'])}"
    if len(refused) > _MOST_REFUSED:
        yield f"  … and {len(refused) - _MOST_REFUSED} more"
    yield "  next: cni-repair status; put right what the reasons name"
