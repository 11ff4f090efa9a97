"""What happens to a node of kubelet's, and what must hold at each step; one follows the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cni_repair.demo.lab import GATEWAY, LabError, poll_until
from integration.driver.checks import Checks, said, states
from integration.kubelet.kubelet import NAMESPACE
from integration.kubelet.node import Node, Seen
from integration.steps import Steps

PODS = ("plain", "patient", "hasty")
# What the liveness probes of two of them do, and how many failures in a row they bear.
_PROBE = ("ping", "-c", "1", "-W", "1", GATEWAY)
_FAILURES = {"patient": 900, "hasty": 8}  # one a second
# Those whose containers nothing may have touched in the end; hasty is the control.
_SPARED = ("plain", "patient")

_SAME: dict[str, Callable[[Seen], object]] = {
    "podIP": lambda seen: (seen.pod.ip, seen.sandbox.ip),
    "sandbox": lambda seen: (seen.sandbox.id, seen.sandbox.attempt, seen.sandbox.pid),
    "restartCount": lambda seen: seen.pod.restarts,
    "container and start time of its process": lambda seen: (seen.container.id, seen.started),
}

_READY_SECONDS = 180.0
_RESTART_SECONDS = 180.0
_ANSWER_SECONDS = 180.0
_GONE_SECONDS = 180.0


@dataclass
class Story:
    """What the steps know of one another."""

    node: Node
    before: dict[str, Seen] = field(default_factory=dict)
    interfaces: dict[str, Any] = field(default_factory=dict)
    lost: float = 0.0


STEPS = Steps[Story]()


def _answers(story: Story) -> dict[str, list[str]]:
    """The gateways that answer each pod; not hasty, whose container comes and goes."""
    return {name: story.node.answers(seen) for name, seen in _spared(story).items()}


def _check_pings(story: Story, check: Checks) -> bool:
    """The network works."""
    gateways = story.node.lab.gateways
    deadline = time.monotonic() + _ANSWER_SECONDS
    while True:
        answers = _answers(story)
        all_answer = all(found == gateways for found in answers.values())
        if all_answer or time.monotonic() >= deadline:
            check(f"pings from the containers to {', '.join(gateways)} pass", all_answer, answers)
            return all_answer


def _spared(story: Story) -> dict[str, Seen]:
    return {name: story.node.see(name) for name in _SPARED}


@STEPS.step("add")
def add(story: Story, check: Checks) -> None:
    """kubelet makes the pods."""
    node = story.node
    for name in PODS:
        probe = _PROBE if name in _FAILURES else ()
        node.kubelet.run_pod(name, probe=probe, failures=_FAILURES.get(name, 0))
    node.wait_ready(list(PODS), _READY_SECONDS)
    story.before = {name: node.see(name) for name in PODS}
    story.interfaces = {name: node.interface(seen) for name, seen in story.before.items()}
    pods = {name: seen.pod for name, seen in story.before.items()}
    running = all((pod.phase, pod.restarts) == ("Running", 0) for pod in pods.values())
    check("kubelet's static pods are Running and Ready", running, pods)
    wrong = [
        f"{name}: {seen.pod.ip}, CRI {seen.sandbox.ip}, eth0 {story.interfaces[name]}"
        for name, seen in story.before.items()
        if not seen.pod.ip == seen.sandbox.ip == _address(story.interfaces[name])
    ]
    check("each podIP is the address of the pod's eth0", not wrong, "; ".join(wrong))
    named = {name: node.checkpoint(seen).get("pod") for name, seen in story.before.items()}
    right = {
        name: {"namespace": NAMESPACE, "name": pod.name, "uid": pod.uid}
        for name, pod in pods.items()
    }
    check("each pod's checkpoint names its namespace, name and uid", named == right, named)
    _check_pings(story, check)


def _address(interface: dict[str, Any]) -> str:
    found = interface.get("link", {}).get("addr_info", [])
    return next((str(one["local"]) for one in found if one["family"] == "inet"), "")


@STEPS.step("loss")
def loss(story: Story, check: Checks) -> None:
    """The uplink goes and comes back, and nobody repairs."""
    node = story.node
    story.lost = time.monotonic()
    node.lab.uplink_lost()
    node.lab.uplink_back()
    (hasty,) = poll_until(lambda: _restarted(node), _RESTART_SECONDS, "hasty to be restarted")
    now = {**_spared(story), "hasty": hasty}
    check(
        "control: an impatient liveness probe has its container restarted, in the dead sandbox",
        hasty.pod.restarts >= 1 and hasty.sandbox.id == story.before["hasty"].sandbox.id,
        hasty,
    )
    left = [name for name, seen in now.items() if node.interface(seen)]
    check("control: no pod has an eth0", not left, left)
    answers = _answers(story)
    check("control: pings of no pod pass", not any(answers.values()), answers)
    cached = {
        name: (seen.sandbox.ready, seen.sandbox.ip, seen.pod.phase, seen.pod.ip)
        for name, seen in now.items()
    }
    believed = {
        name: (True, seen.sandbox.ip, "Running", seen.pod.ip) for name, seen in story.before.items()
    }
    check(
        "control: CRI says READY, kubelet Running, both with the IP of before",
        cached == believed,
        cached,
    )
    failed = node.kubelet.probed("patient", "failed")
    check("the patient pod's liveness probe has failed, too", failed > 0, failed)
    status = node.status()
    lost = status.returncode == 1 and states(status) == ["lost"] * len(PODS)
    check("status: every pod lost, exit 1", lost, said(status))


def _restarted(node: Node) -> list[Seen]:
    """The hasty pod, once its container has been restarted."""
    try:
        hasty = node.see("hasty")
    except LabError:  # in between
        return []
    return [hasty] if hasty.pod.restarts else []


@STEPS.step("repair")
def repair(story: Story, check: Checks) -> None:
    """REPAIR, within the patient pod's failure threshold."""
    node = story.node
    outcome = node.repair()
    healthy = outcome.returncode == 0 and states(outcome) == ["healthy"] * len(PODS)
    check("REPAIR of all the node: exit 0, every pod healthy", healthy, said(outcome))
    answered = _check_pings(story, check)
    check.outage = f"{time.monotonic() - story.lost:.1f}" if answered else "no end"
    changed = [
        f"{name}: {was} became {now}"
        for name, was in story.interfaces.items()
        if (now := node.interface(story.before[name])) != was
    ]
    check("every pod's eth0 is the same as before: index, MAC, addresses, routes, …",
          not changed, "; ".join(changed))  # fmt: skip
    _check_probed(node, check, node.kubelet.probed("patient", "successful"))
    _check_spared(story, check)


def _check_probed(node: Node, check: Checks, before: int) -> None:
    check.succeeds(
        "patient: its liveness probe succeeds again",
        lambda: poll_until(
            lambda: node.kubelet.probed("patient", "successful") > before,
            _ANSWER_SECONDS,
            "a success",
        ),
    )


@STEPS.step("restart")
def restart(story: Story, check: Checks) -> None:
    """kubelet is restarted: it knows of its pods what CRI tells."""
    node = story.node
    node.kubelet.stop()
    node.kubelet.start()
    node.wait_ready(list(_SPARED), _READY_SECONDS)
    # Its counters began anew: it has looked at its pods, and is at work.
    _check_probed(node, check, 0)
    _check_spared(story, check)
    _check_pings(story, check)


def _check_spared(story: Story, check: Checks) -> None:
    """All but hasty are what they were; patient's liveness probe was borne with."""
    now = _spared(story)
    for what, of in _SAME.items():
        old = {name: of(story.before[name]) for name in now}
        new = {name: of(seen) for name, seen in now.items()}
        check(f"plain and patient: the same {what} as before", old == new, f"{old} became {new}")


@STEPS.step("delete")
def delete(story: Story, check: Checks) -> None:
    """The pods are deleted."""
    node = story.node
    held = {seen.pod.ip for seen in story.before.values()}
    check("host-local holds the pods' addresses until then", held <= node.leases(), node.leases())
    for name in PODS:
        node.kubelet.remove_pod(name)
    check.succeeds(
        "pods deleted: kubelet has none left",
        lambda: poll_until(lambda: not node.kubelet.pods(), _GONE_SECONDS, "none"),
    )
    check.succeeds(
        "their addresses are free again",
        lambda: poll_until(lambda: not node.leases(), _GONE_SECONDS, f"{node.leases()} to go"),
    )
    checkpoints = [name for name, seen in story.before.items() if node.checkpoint(seen)]
    check("their checkpoints are gone", not checkpoints, checkpoints)
