"""What came of an upgrade, from its journal: for scripts, and as text. Pure."""

from __future__ import annotations

from cni_repair.base.columns import Row, table_of
from cni_repair.base.frozen import asdict, frozen
from cni_repair.base.names import title_of
from cni_repair.node.report import DOCUMENT_VERSION, NO_FAILURE, STATES, reason_in
from cni_repair.upgrade.baseline import (
    NOTHING_KNOWN,
    as_bad_as_before,
    change_of_link,
    change_of_pod,
    measured_after,
    measured_before,
)
from cni_repair.upgrade.digest import digest_in, digest_of
from cni_repair.upgrade.progress import (
    CUT_SHORT,
    ENDED,
    MASTERS,
    PHASES,
    PREFLIGHT,
    REBOOTED,
    RELEASE,
    REPAIR,
    RUNNING,
    SNAPSHOT,
    VERIFY,
    remaining,
)
from cni_repair.upgrade.times import clock
from cni_repair.upgrade.verdict import verdict_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cni_repair.upgrade.baseline import LinkFacts, Measure, PodFacts
    from cni_repair.upgrade.planfile import Plan
    from cni_repair.upgrade.progress import Done, Progress


@frozen
class Seen:
    """From where an upgrade is looked at."""

    standing: str  # progress.RUNNING, CUT_SHORT, ENDED or REBOOTED
    now: float  # Unix time
    again: str = ""  # options that a next command has to repeat, with a blank before each
    cards: Mapping[str, LinkFacts] = {}  # the links with a driver, as they are now


def document(progress: Progress, seen: Seen) -> dict[str, Any]:
    """The report as `-o json` prints it. Times are Unix times in seconds; where no upgrade was
    begun, it says so, and nothing else."""
    begin, end = progress.begin, progress.end
    attachments = _attachments(progress)
    before, after = measured_before(progress), measured_after(progress)
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "standing": seen.standing,
        "status": end["status"] if end else None,
        "verdict": verdict_of(progress),
        "began": begin.get("at"),
        "ended": end["at"] if end else None,
        "runs": [{**asdict(run), "failed": list(run.failed)} for run in progress.runs],
        "phases": [
            _phase_document(progress.done[name]) for name in PHASES if name in progress.done
        ],
        "current": progress.current or None,
        "remaining": list(remaining(progress)) if begin and seen.standing != REBOOTED else [],
        "links": _links_document(progress),
        "kubelet": kubelet_document(progress, seen),
        "attachments": attachments,
        "summary": _summary(attachments),
        "notRestorable": _data(progress, SNAPSHOT, "notRestorable"),
        "verdicts": [_current(one, _SINCE_VERDICT) for one in _data(progress, VERIFY, "verdicts")],
        "comparison": comparison_document(before, after),
        "drivers": _drivers_document(before.links, after.links, seen.cards),
        "plan": begin.get("plan"),
        "planDigest": digest_in(begin.get("plan")),
    }


def _phase_document(done: Done) -> dict[str, Any]:
    return {
        "phase": done.phase,
        "ok": done.ok,
        "began": done.began,
        "seconds": round(done.ended - done.began, 3),
        "words": done.words,
    }


def _links_document(progress: Progress) -> list[dict[str, Any]]:
    """When the node's links went, and when its uplinks were back."""
    return [
        {"name": name, "lostAt": progress.lost.get(name), "backAt": progress.back.get(name)}
        for name in {**progress.lost, **progress.back}
    ]


def comparison_document(before: Measure, after: Measure) -> dict[str, Any]:
    """What was measured before the driver was touched, beside what it is afterwards."""
    links = {**before.links, **after.links}
    pods = {**before.pods, **after.pods}
    return {
        "links": [_link_compared(before.links.get(name), after.links.get(name)) for name in links],
        "attachments": [
            _pod_compared(name, before.pods.get(name), after.pods.get(name)) for name in pods
        ],
    }


def _link_compared(before: LinkFacts | None, after: LinkFacts | None) -> dict[str, Any]:
    known = before or after
    assert known is not None
    return {
        "name": known.name,
        "bond": known.bond,
        "before": _link_facts(before),
        "after": _link_facts(after),
        "change": change_of_link(before, after) if before and after else None,
    }


def _link_facts(link: LinkFacts | None) -> dict[str, Any] | None:
    if link is None:
        return None
    return {"there": link.there, "up": link.up, "carrier": link.carrier, "mtu": link.mtu}


def _pod_compared(name: str, before: PodFacts | None, after: PodFacts | None) -> dict[str, Any]:
    container_id, _, ifname = name.partition("@")
    return {
        "containerID": container_id,
        "ifname": ifname,
        "before": _pod_facts(before),
        "after": _pod_facts(after),
        "change": change_of_pod(before, after) if before and after else None,
    }


def _pod_facts(pod: PodFacts | None) -> dict[str, Any] | None:
    if pod is None:
        return None
    gateways = [{"address": address, "state": state} for address, state in pod.gateways.items()]
    return {"verdict": pod.verdict, "passed": pod.passed, "gateways": gateways}


def _summary(attachments: list[dict[str, Any]]) -> dict[str, int]:
    counts = {state: sum(one["state"] == state for one in attachments) for state in STATES}
    return {
        "attachments": len(attachments),
        **counts,
        "failed": sum("error" in one and one["state"] not in NO_FAILURE for one in attachments),
        "givenUp": sum(one["givenUp"] for one in attachments),
        "asBefore": sum(one["asBefore"] for one in attachments),
    }


# The journal of an upgrade that an earlier version did has these keys not yet, and has a sentence
# (`reason`) in the place of findings.
_SINCE_ATTACHMENT = {
    "network": "", "netns": "", "master": "", "addresses": [], "notes": [], "asBefore": False,
}  # fmt: skip
_SINCE_VERDICT = {"network": "", "master": "", "addresses": [], "conflicts": []}


def _attachments(progress: Progress) -> list[dict[str, Any]]:
    """What was repaired, as the journal has it."""
    return [_current(one, _SINCE_ATTACHMENT) for one in _data(progress, REPAIR, "pods")]


def _current(noted: dict[str, Any], since: dict[str, Any]) -> dict[str, Any]:
    """A journal's entry in the form of this version."""
    if "findings" in noted:
        return {**since, **noted}
    reason = noted.get("reason")
    kept = {key: value for key, value in noted.items() if key not in ("title", "reason")}
    return {**since, **kept, "findings": [reason] if reason else []}


def _drivers_document(*moments: Mapping[str, LinkFacts]) -> list[dict[str, Any]]:
    """What served each card before the driver was touched, afterwards, and now."""
    cards = {name: None for links in moments for name, link in links.items() if link.driver}
    times = ("before", "after", "now")
    return [
        {
            "link": name,
            **{time: _driver_facts(links.get(name)) for time, links in zip(times, moments)},
        }
        for name in cards
    ]


def _driver_facts(link: LinkFacts | None) -> dict[str, str] | None:
    if link is None or not link.driver:
        return None
    return {"name": link.driver, "version": link.version, "firmware": link.firmware}


def dry_run_document(
    plan: Plan, steps: list[str], problems: list[str], now: Measure
) -> dict[str, Any]:
    """What `--dry-run -o json` prints: what would be done, what is in the way of that, and how the
    node is `now`, which afterwards must be no worse."""
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "steps": steps,
        "findings": problems,
        "comparison": comparison_document(now, NOTHING_KNOWN),
        "drivers": _drivers_document({}, {}, now.links),
        "planDigest": digest_of(plan),
    }


def kubelet_document(progress: Progress, seen: Seen) -> dict[str, Any] | None:
    """Whether the kubelet may be held, and until when; None where this upgrade never touched it."""
    noted = progress.events.get("kubelet")
    if noted is None:
        return None
    until = progress.events.get("deadman", {}).get("until")
    over = until is not None and until <= seen.now
    held = progress.holds_kubelet and seen.standing != REBOOTED and not over
    return {"unit": noted["unit"], "held": held, "until": until if held else None}


def _data(progress: Progress, phase: str, key: str) -> list[Any]:
    done = progress.done.get(phase)
    found = done.data.get(key, []) if done else []
    return found if isinstance(found, list) else []


def lines(progress: Progress, seen: Seen) -> list[str]:
    """The report as text: the node's timeline, then the pods, then what is left to do."""
    rows = [("AT", "PHASE", "RESULT", "SECONDS", "WHAT")]
    rows += [_phase_row(progress.done[name]) for name in PHASES if name in progress.done]
    rows += [("", progress.current, "not ended", "", "")] if progress.current else []
    width = max(len(row[0]) for row in rows)
    text = [_PHASE.format(*row, width=width).rstrip() for row in rows]
    problems = _data(progress, PREFLIGHT, "problems")
    if len(problems) > 1:
        text += [f"  {problem}" for problem in problems]
    text += _link_lines(progress)
    pods = [pod for pod in _attachments(progress) if pod["state"] != "stale"]
    if pods:
        text += ["", *_pod_lines(pods)]
    given_up = _data(progress, SNAPSHOT, "notRestorable")
    if given_up and progress.touched:
        text += ["", "could not have been restored, which the plan's coverage allows:"]
        text += [f"  {one}" for one in given_up]
    as_before = as_bad_as_before(measured_before(progress), measured_after(progress))
    if as_before:
        text += ["", "was so before the driver was touched, and is no failure of the upgrade:"]
        text += [f"  {': '.join(filter(None, one))}" for one in as_before]
    held, left = _kubelet_lines(progress, seen), _next_lines(progress, seen)
    return [*text, *([""] if held or left else []), *held, *left]


_PHASE = "{0:<{width}} {1:<9}  {2:<9} {3:>7}  {4}"
_POD_COLUMNS = ("STATE", "ATTACHMENT", "STEPS", "OUTAGE", "LOST")


def _phase_row(done: Done) -> tuple[str, str, str, str, str]:
    result = "ok" if done.ok else "FAILED"
    took = f"{done.ended - done.began:.1f}"
    return clock(done.began), done.phase, result, took, done.words


def _link_lines(progress: Progress) -> list[str]:
    """When the node's links went; how long uplinks were away."""
    text = []
    for link, gone in progress.lost.items():
        back = progress.back.get(link, 0.0)
        away = f", was away for {_seconds(back - gone)}" if back > gone else ""
        text.append(f"{clock(gone)} {link} went{away}")
    return text


def _pod_lines(pods: list[dict[str, Any]]) -> list[str]:
    text = [line.text for line in table_of(_POD_COLUMNS, [_pod_row(pod) for pod in pods])]
    outages = [pod["outageMs"] for pod in pods if pod["outageMs"] is not None]
    return [*text, *([f"longest outage: {_seconds(max(outages) / 1000)}"] if outages else [])]


def _pod_row(pod: dict[str, Any]) -> Row:
    cells = (
        title_of(pod["pod"], pod["containerID"], pod["ifname"]),
        str(len(pod["actions"])),
        "-" if pod["outageMs"] is None else _seconds(pod["outageMs"] / 1000),
        "; ".join(pod["lost"]) or "-",
    )
    return Row(pod["state"], cells, reason_in(pod))


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _kubelet_lines(progress: Progress, seen: Seen) -> list[str]:
    kubelet = kubelet_document(progress, seen)
    if kubelet is None or not progress.holds_kubelet or seen.standing == REBOOTED:
        return []
    if not kubelet["held"]:
        until = clock(progress.events["deadman"]["until"])
        look = f"systemctl status {kubelet['unit']}"
        what = "was to be released by a timer of systemd's"
        return [f"{kubelet['unit']} {what} at {until}: {look}"]
    until = f" at {clock(kubelet['until'])}" if kubelet["until"] else ""
    release = progress.done.get(RELEASE)
    failed = release is not None and not release.data.get("held")
    is_so = "could not be released" if failed else "is held: stopped and masked"
    text = [f"{kubelet['unit']} {is_so}; a timer of systemd's releases it{until}"]
    if seen.standing != RUNNING:
        text.append(f"release it now, and give up: cni-repair upgrade --release{seen.again}")
    return text


def _next_lines(progress: Progress, seen: Seen) -> list[str]:
    todo = remaining(progress)
    refused = seen.standing == ENDED and not progress.touched
    if seen.standing not in (CUT_SHORT, ENDED) or refused or not todo:
        return []
    failed = {name for name, done in progress.done.items() if not done.ok}
    text = []
    if seen.standing == ENDED and failed & {MASTERS, REPAIR, VERIFY}:
        # A resume alone would fail as this one did.
        command = "status" if failed & {MASTERS, REPAIR} else "verify"
        text.append(f"what is in the way, and what to do about it: cni-repair {command}; then")
    return [*text, f"left to do: {', '.join(todo)}: {resume_command(progress, seen.again)}"]


def resume_command(progress: Progress, again: str) -> str:
    """What goes on with an upgrade in the way it ran; `again` as in :class:`Seen`."""
    foreground = " --foreground" if progress.foreground else ""
    return f"cni-repair upgrade --resume{foreground}{again}"
