"""What is killed, and what a runtime or an operator does then."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cni_repair.demo.lab import Netns
from integration.trust.killed.stage import Kill, Picture, Stage, Traced, good
from integration.trust.tracer import ALL, COMMAND

_ATTACHED_ALREADY = 106
_NONE_IS_VALID: dict[str, Any] = {"cni.dev/valid-attachments": []}


# The kernel says EEXIST, as one before 6.15 does where the node has a link of that index (all have
# lo, with index 1): the link is made in the node then, and moved.
_OLD_KERNEL = """\
from cni_repair.base.frozen import replace
from cni_repair.network.operations.link import AddPodLink
requests = AddPodLink.requests
def refused(self, target):
    return requests(replace(self, ifname="lo", link=replace(self.link, ifindex=1)), target)
AddPodLink.requests = refused
"""


@dataclass
class Scene:
    """What an act is done to."""

    stage: Stage
    pods: list[Netns]
    exact: Picture = field(default_factory=dict)  # to be as it was, to the index


@dataclass(frozen=True)
class Act:
    """One thing that cni-repair does, and may be killed in."""

    name: str
    prepare: Callable[[Stage], Scene]
    run: Callable[[Scene, Kill | None], Traced]
    thens: Mapping[str, Callable[[Scene], None]]
    who: tuple[str, ...] = (COMMAND, ALL)


# --- Scenes ---


def _new_pod(stage: Stage) -> Scene:
    return Scene(stage, [stage.pod()])


def _attached(stage: Stage, count: int = 1) -> Scene:
    pods = [stage.pod() for _ in range(count)]
    for pod in pods:
        stage.must("ADD", pod)
    return Scene(stage, pods, stage.exact(pods))


def _lost(stage: Stage) -> Scene:
    scene = _attached(stage)
    stage.reload()
    return scene


# --- Acts ---


def _verb(verb: str, **more: Any) -> Callable[[Scene, Kill | None], Traced]:
    def run(scene: Scene, kill: Kill | None) -> Traced:
        lab = scene.stage.lab
        pod = None if verb == "GC" else scene.pods[0]
        netconf = lab.netconf(**more)
        return scene.stage.traced((), kill, lab.environment(verb, pod), netconf)

    return run


# --- What comes next ---


def _add(scene: Scene) -> None:
    """Again; where the one that was killed had done all but answer, the runtime deletes first."""
    for pod in scene.pods:
        outcome = scene.stage.cni("ADD", pod)
        if outcome.returncode and json.loads(outcome.stdout)["code"] == _ATTACHED_ALREADY:
            scene.stage.must("DEL", pod)
            outcome = scene.stage.cni("ADD", pod)
        good("ADD", outcome)
    scene.exact = {}


def _delete(scene: Scene) -> None:
    for pod in scene.pods:
        scene.stage.must("DEL", pod)
    scene.exact = {}


def _collect(scene: Scene) -> None:
    """The runtime knows none of the pods any more."""
    scene.stage.must("GC", None, **_NONE_IS_VALID)
    scene.exact = {}


def _repair(scene: Scene) -> None:
    for pod in scene.pods:
        scene.stage.must("REPAIR", pod)


ACTS = {
    act.name: act
    for act in (
        Act("ADD", _new_pod, _verb("ADD"), {"ADD": _add, "DEL": _delete, "GC": _collect}),
        Act("DEL", _attached, _verb("DEL"), {"DEL": _delete, "ADD": _add, "GC": _collect}),
        Act(
            "GC",
            _attached,
            _verb("GC", **_NONE_IS_VALID),
            {"GC": _collect, "DEL": _delete},
        ),
        Act(
            "REPAIR",
            _lost,
            _verb("REPAIR"),
            {"REPAIR": _repair, "DEL": _delete, "GC": _collect},
        ),
    )
}
