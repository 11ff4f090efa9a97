"""What `watch --status` shows: one screen of a serial console, the pods' states first. Pure."""

from __future__ import annotations

import textwrap

from cni_repair.base.columns import Row, table_of
from cni_repair.base.names import short_id
from cni_repair.cli.printable import one_line
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.upgrade.times import clock, duration
from cni_repair.watch.policy import HEALING, UPGRADING
from cni_repair.watch.status import DEAD, HUNG, NONE, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.watch.pausing import Pause
    from cni_repair.watch.status import Standing

_MOST_MASTERS = 4
_MOST_REFUSED = 2
_FEWEST_REFUSED = 1  # where there is more to be said before
# States that a repair may end, or somebody.
UNWELL = ("lost", "degraded", "foreign", "released", "unreadable")
_MASTERS = ("MASTER", "STATE", "PODS", "ARMED")
_WRONG_FIRST = (*UNWELL, "renamed", "stale")
_COLUMNS = 80
_LONGEST_NAME = 31  # of a pod, in a line of 80 columns
_AND_SO_ON = " …"
_NOW = "what is lost now: cni-repair status"
_START = (
    "systemctl start cni-repair-watch",
    "why it ended: journalctl -u cni-repair-watch -n 20",
    _NOW,
)
_RESTART = (
    "systemctl restart cni-repair-watch",
    "why: journalctl -u cni-repair-watch -n 20",
    _NOW,
)
_INSTALL = ("systemctl start cni-repair-watch", "where there is no such unit: install.sh --watch")


def lines(
    standing: Standing, pause: Pause | None, now: float, boot_now: float, mistaken: str = ""
) -> Iterator[str]:
    """The screen; `now` is Unix time, `boot_now` the boot's clock, `mistaken` the configuration
    file, where it has a mistake."""
    status = standing.document
    if status is not None and standing.name == RUNNING:
        yield _states(status)
        yield from _at_work(status, pause, now, boot_now)
        if mistaken:
            yield f"  a mistake in its file: {_validate(mistaken)}"
    else:
        yield from _not_seeing(standing, mistaken)
        if pause is not None:
            yield from _paused(pause, boot_now)
    if status is not None:
        if standing.name != RUNNING:
            yield _states(status)
        yield from _figures(status, now)
        yield from _masters(status["masters"], now)
        most = _FEWEST_REFUSED if pause is not None or mistaken else _MOST_REFUSED
        yield from _refused(status["refused"], most)
        if standing.name not in (DEAD, HUNG):
            yield from _what_to_do(status)


def _what_to_do(status: dict[str, Any]) -> Iterator[str]:
    """`status` knows nothing of an upgrade, which repairs the pods itself; nor of a refusal: it
    would name the repair that was refused."""
    if status["mode"] == UPGRADING:
        yield "next: cni-repair upgrade --status, which says where it stands; leave it its work"
        return
    refused = status["refused"]
    if refused:
        yield f"next: do what the reason says (all of it: cni-repair log {_name(refused[0])}),"
        yield "      then cni-repair repair --all"
    if sum(status["attachments"].get(state, 0) for state in UNWELL) > len(refused):
        pods = "which other pods" if refused else "which pods"
        yield f"next: cni-repair status, which says {pods}, why, and what to do"


def _name(refused: dict[str, Any]) -> str:
    """By which a command finds a pod; one that is short enough for a line."""
    pod = quoted(refused["pod"]) if refused["pod"] else ""
    return pod if pod and len(pod) <= _LONGEST_NAME else short_id(refused["containerID"])


def _validate(path: str) -> str:
    return f"cni-repair validate {quoted(path)}"


def _not_seeing(standing: Standing, mistaken: str) -> Iterator[str]:
    """What comes before all else where nothing is healed, and what was seen is old."""
    first = (f"{_validate(mistaken)}: it has a mistake; then",) if mistaken else ()
    old = duration(standing.seconds_old)
    seen = f"; what follows is {old} old" if standing.document else ""
    if standing.name == NONE:
        yield "watch: does not run, and has not since this boot: nothing is healed by itself"
        yield from _next(first + _INSTALL)
    elif standing.name == DEAD:
        yield f"watch: DOES NOT RUN: nothing is healed by itself{seen}"
        yield from _next(first + _START)
    elif standing.name == HUNG:
        yield f"watch: HANGS: nothing is healed by itself{seen}"
        yield from _next(first + _RESTART)
    else:
        yield "watch: just started: it has not looked yet"


def _next(steps: tuple[str, ...]) -> Iterator[str]:
    first, *more = steps
    yield f"  next: {first}"
    yield from (f"        {step}" for step in more)


def _states(status: dict[str, Any]) -> str:
    counts = status["attachments"]
    total = sum(counts.values())
    order = [*_WRONG_FIRST, "healthy"]
    known = [state for state in order if counts.get(state)]
    each = ", ".join(f"{counts[state]} {state}" for state in known)
    return f"{total} attachment{'' if total == 1 else 's'}{': ' if each else ''}{each}"


def _at_work(
    status: dict[str, Any], pause: Pause | None, now: float, boot_now: float
) -> Iterator[str]:
    if pause is not None:  # what is in force now, should the daemon not have seen it yet
        yield from _paused(pause, boot_now, "watch: ")
    else:
        yield from _in_two_lines(f"watch: {_mode(status)}")
    yield f"  since {clock(status['since'])} (PID {status['pid']}), {_look(status, now)}"


def _figures(status: dict[str, Any], now: float) -> Iterator[str]:
    heals, kubelet, coverage = (status[key] for key in ("heals", "kubelet", "coverage"))
    if heals["total"] or heals["failed"]:
        yield f"  heals: {_heals(heals)}"
    if kubelet["held"]:
        yield f"  kubelet is held{_since(kubelet['since'], now)}"
    yield from _cluster(status.get("kubernetes"), now)
    if status["unmanaged"] or coverage["restorable"] < coverage["interfaces"]:
        share = f"{coverage['restorable']} of {coverage['interfaces']}"
        yield f"  restorable: {share} pod interfaces; the others: cni-repair snapshot --check"


def _cluster(told: dict[str, Any] | None, now: float) -> Iterator[str]:
    """What the API server knows; nothing where there is none."""
    if told is None:
        return
    if told["condition"] is not None:
        since = duration(now - told["at"])
        condition = f"PodNetworkLost={told['condition']}"
        node = one_line(told["node"])
        yield from _in_two_lines(f"  kubernetes: {condition} of node {node}, told {since} ago")
    if told["trouble"]:
        yield from _in_two_lines(f"  kubernetes: {one_line(told['trouble'])}")


def _paused(pause: Pause, boot_now: float, subject: str = "") -> Iterator[str]:
    yield from _in_two_lines(f"{subject}{one_line(pause.words(boot_now))}")
    yield "  to end that: cni-repair watch --resume"


def _mode(status: dict[str, Any]) -> str:
    if status["mode"] == HEALING:
        what = {"drift": "whatever a pod loses"}.get(status["heal"], "what an uplink takes with it")
        return f"heals {what} (heal: {status['heal']})"
    return f"{status['mode']}, heals nothing: {one_line(status['reason'])}"


def _look(status: dict[str, Any], now: float) -> str:
    if status["lastLook"] is None:
        return "has not looked at all pods yet"
    return f"all pods looked at {duration(now - status['lastLook'])} ago"


def _heals(heals: dict[str, Any]) -> str:
    words = f"{heals['total']} pods back" if heals["total"] != 1 else "1 pod back"
    if heals["failed"]:
        words += f", {heals['failed']} not"
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


def _refused(refused: list[dict[str, Any]], most: int) -> Iterator[str]:
    if not refused:
        return
    yield "refused, and not tried again until something about them changes:"
    for one in refused[:most]:
        pod = one_line(one["pod"]) or short_id(one["containerID"])
        yield f"  {one['state']} {pod} {one_line(one['ifname'])}:"
        yield from _in_two_lines(one_line(one["reason"]), "    ")
    if len(refused) > most:
        yield f"  … and {len(refused) - most} more"


def _in_two_lines(text: str, indent: str = "") -> Iterator[str]:
    first, *more = textwrap.wrap(text, _COLUMNS - len(indent) - len(_AND_SO_ON)) or [""]
    yield f"{indent}{first}"
    if more:
        yield f"{indent}{more[0]}{_AND_SO_ON if more[1:] else ''}"
