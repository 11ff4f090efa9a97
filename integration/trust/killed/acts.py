"""What is killed, and what a runtime or an operator does then."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cni_repair.demo.lab import GATEWAY
from integration.trust.killed.scene import Scene
from integration.trust.killed.stage import LIBCNI, Kill, Stage, Traced, good
from integration.trust.killed.watching import killed_watch, watch_again
from integration.trust.tracer import ALL, CALLER, COMMAND

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


def _three_lost(stage: Stage) -> Scene:
    scene = _attached(stage, 3)
    stage.reload()
    return scene


def _changed(stage: Stage) -> Scene:
    """By Multus, say: the record does not know it yet."""
    scene = _attached(stage)
    for pod in scene.pods:
        stage.lab.ip(pod, *f"route add 192.0.2.0/24 via {GATEWAY}".split())
    return Scene(stage, scene.pods, stage.exact(scene.pods))


def _adoptable(stage: Stage) -> Scene:
    """Attached by the bare plugin, and remembered by the runtime's libcni."""
    pod, lab = stage.pod(), stage.lab
    netconf = lab.netconf(type="macvlan")
    plugin = [f"{lab.cni_path}/macvlan"]
    result = good("macvlan", lab.cni("ADD", pod, netconf, command=plugin)).document
    plugins = {key: netconf[key] for key in netconf if key not in ("cniVersion", "name")}
    conflist = {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugins]}
    entry = {
        "kind": "cniCacheV1",
        "containerId": pod.name,
        "config": base64.b64encode(json.dumps(conflist).encode()).decode(),
        "ifName": "eth0",
        "networkName": "pods",
        "netns": pod.path,
        "cniArgs": [],
        "result": result,
    }
    file = stage.file(f"{LIBCNI}/pods-{pod.name}-eth0")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(json.dumps(entry))
    file.chmod(0o600)
    return Scene(stage, [pod], stage.exact([pod]))


def _planned(stage: Stage) -> Scene:
    """Two pods, and a plan whose driver command reloads the uplink."""
    command = (
        "ip link del eth0; ip link add eth0 address 02:00:00:00:09:02 type veth"
        " peer name tor0 address 02:00:00:00:09:01 netns tor;"
        f" ip -n tor addr add {GATEWAY}/24 dev tor0; ip -n tor link set tor0 up;"
        " ip link set eth0 up"
    )
    plan = {"version": 1, "kubelet": "none", "driver": {"command": command}}
    (stage.directory / "plan.yaml").write_text(json.dumps(plan))
    return _attached(stage, 2)


# --- Acts ---


def _verb(verb: str, patch: str = "", **more: Any) -> Callable[[Scene, Kill | None], Traced]:
    def run(scene: Scene, kill: Kill | None) -> Traced:
        lab = scene.stage.lab
        environment = lab.environment(verb, None if verb == "GC" else scene.pods[0])
        return scene.stage.traced((), kill, environment, lab.netconf(**more), patch)

    return run


def _command(*words: str) -> Callable[[Scene, Kill | None], Traced]:
    return lambda scene, kill: scene.stage.traced(words, kill)


def _upgrade(scene: Scene, kill: Kill | None) -> Traced:
    return scene.stage.traced(_upgrade_words(scene), kill)


def _upgrade_words(scene: Scene) -> tuple[str, ...]:
    return ("upgrade", str(scene.stage.directory / "plan.yaml"), "--foreground")


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


def _again(*words: str) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        scene.stage.cli(*words)

    return run


def _resume(scene: Scene) -> None:
    """What the operator is told to do; one that had not begun is begun."""
    stage = scene.stage
    status = stage.lab.cli("upgrade", "--status", "-o", "json", command=stage.command)
    standing = status.document["standing"]
    if standing == "none":
        stage.cli(*_upgrade_words(scene))
    elif standing != "ended":
        stage.cli("upgrade", "--resume", "--foreground")


_AFTER_REPAIR = {"REPAIR": _repair, "DEL": _delete, "GC": _collect}
_ALL, _SNAPSHOT, _ADOPT = ("repair", "--all"), ("snapshot",), ("adopt", "--write")

ACTS = {
    act.name: act
    for act in (
        Act("ADD", _new_pod, _verb("ADD"), {"ADD": _add, "DEL": _delete, "GC": _collect}),
        Act("DEL", _attached, _verb("DEL"), {"DEL": _delete, "ADD": _add, "GC": _collect}),
        Act("REPAIR", _lost, _verb("REPAIR"), _AFTER_REPAIR),
        Act("REPAIR-moved", _lost, _verb("REPAIR", _OLD_KERNEL), _AFTER_REPAIR),
        Act("GC", _attached, _verb("GC", **_NONE_IS_VALID), {"GC": _collect}),
        Act("repair", _three_lost, _command(*_ALL), {"repair": _again(*_ALL), "DEL": _delete}),
        Act(
            "snapshot",
            _changed,
            _command(*_SNAPSHOT),
            # (A DEL instead leaves what is half written of the armed index to the next snapshot.)
            {"snapshot": _again(*_SNAPSHOT)},
        ),
        Act("adopt", _adoptable, _command(*_ADOPT), {"adopt": _again(*_ADOPT), "DEL": _delete}),
        Act("upgrade", _planned, _upgrade, {"resume": _resume}, (COMMAND,)),
        Act("watch", _attached, killed_watch, {"watch": watch_again}, (COMMAND, CALLER)),
    )
}
