"""What happens to the cluster, and what must hold at each step; one follows the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from cni_repair.base.closeable import Closeable
from cni_repair.demo.lab import Connection
from integration.cluster.cluster import Cluster
from integration.cluster.node import LAUNCHER
from integration.cluster.overlay import (
    CONTAINER,
    DAEMONSET,
    NAMESPACE,
    NETWORK,
    POD,
    Image,
    Images,
    Overlay,
    deployment,
)
from integration.cluster.pods import Pod, connect, interface, running
from integration.cluster.polling import (
    Polling,
    connections_carry,
    plugins_answer,
    plugins_are_there,
)
from integration.driver.checks import Checks
from integration.steps import Steps

NODES = ("a", "b", "c")
APP = "shop"
PODS, MORE_PODS = 6, 9  # at first; once an update is under way
CONDITION = "PodNetworkLost"

_SECONDS = 400.0  # what hangs takes longer, on the slowest machine, too
_REASONS = ("PodNetworkLost", "PodNetworkHealed")
_MEANWHILE = "sent meanwhile"
_PREFIX = "/opt/cni-repair"


class Story(Closeable):
    """Context: what the steps know of one another."""

    def __init__(self, cluster: Cluster, images: Images, directory: Path) -> None:
        self.cluster, self.images = cluster, images
        ranges = {name: _addresses(number) for number, name in enumerate(NODES, 1)}
        self.overlay = Overlay(directory / "overlay", ranges)
        self.before: dict[str, Pod] = {}
        self.interfaces: dict[str, Any] = {}
        self.connections: dict[str, Connection] = {}
        self._opened = ExitStack()

    def begin_with(self, pods: dict[str, Pod]) -> None:
        """Remember the pods, and have a TCP connection to each."""
        self.before = pods
        for name, pod in pods.items():
            self.interfaces[name] = interface(pod)
            self.connections[name] = self._opened.enter_context(connect(pod))

    def answer(self) -> None:
        """Have each connection carry what was sent while the NICs were away."""
        for connection in self.connections.values():
            connection.answer(_MEANWHILE)

    def close(self) -> None:
        """Close the connections."""
        self._opened.close()
        self.connections.clear()

    # --- The cluster ---

    def import_image(self, image: Image) -> None:
        """Have every node's containerd know an image: there is no registry."""
        for node in self.cluster.nodes.values():
            node.containerd.import_image(Path(image.archive))

    def apply(self) -> None:
        """Have the cluster be as the overlay says."""
        self.cluster.control.kubectl("apply", "-k", str(self.overlay.directory))

    def wait_rollout(self) -> None:
        """Wait until the DaemonSet is as it was applied last, and ready."""
        daemon_set = f"daemonset/{DAEMONSET}"
        self.cluster.control.kubectl("rollout", "status", daemon_set, *_IN_OURS, _TIMEOUT)

    def conditions(self, kind: str, key: str = "status") -> dict[str, str]:
        """A condition's status on each node; not of those that have none of that kind."""
        return {
            node["metadata"]["name"]: condition[key]
            for node in self.cluster.control.get("nodes")["items"]
            for condition in node["status"]["conditions"]
            if condition["type"] == kind
        }

    def pods(self) -> dict[str, Pod]:
        """Those that run."""
        return running(self.cluster, APP)

    def events(self, reason: str) -> list[str]:
        """What the Events of that reason are about."""
        events = self.cluster.control.get("events", "--all-namespaces")["items"]
        found = (event for event in events if event["reason"] == reason)
        return sorted(event["involvedObject"]["name"] for event in found)

    # --- Nodes ---

    def versions(self) -> dict[str, str]:
        """The version that each node's runtime calls; "" where there is none."""
        found = {}
        for name, node in self.cluster.nodes.items():
            launcher = node.ground.outside(LAUNCHER)
            first = launcher.read_text().splitlines()[0] if launcher.exists() else ""
            found[name] = first.partition(f"{_PREFIX}/versions/")[2].partition("-")[0]
        return found

    def leftovers(self) -> list[str]:
        """Nodes that have anything of it in its prefix."""
        nodes = self.cluster.nodes.values()
        return [node.name for node in nodes if node.ground.outside(_PREFIX).exists()]

    def refusing(self) -> list[str]:
        """The nodes where the DaemonSet's pod has said that something still needs cni-repair."""
        logs = self.cluster.logs.items()
        ours = f"-{NAMESPACE}_{DAEMONSET}-"
        return sorted({name[0] for name, log in logs if ours in name and _REFUSED in log})


def _addresses(number: int) -> tuple[str, str]:
    """Those of the pods on the node of that number."""
    return f"10.9.0.{number * 20}", f"10.9.0.{number * 20 + 19}"


STEPS = Steps[Story]()


def _becomes(check: Checks, what: str, look: Callable[[], Any], wanted: Any) -> None:
    """Check that what is looked at becomes what is wanted, sooner or later."""
    _, seen = _timed(look, wanted)
    check(what, seen == wanted, f"{seen}, not {wanted}")


def _timed(look: Callable[[], Any], wanted: Any) -> tuple[float, Any]:
    """After how many seconds what is looked at is what is wanted; what it was in the end."""
    began = time.monotonic()
    while (seen := look()) != wanted and time.monotonic() < began + _SECONDS:
        time.sleep(0.4)  # kubectl takes a tenth of a processor's second
    return time.monotonic() - began, seen


@STEPS.step("bare")
def bare(story: Story, check: Checks) -> None:
    """The nodes have no network for pods."""
    ready = story.conditions("Ready")
    check("three nodes have joined, none is Ready", ready == _on_all("False"), ready)
    messages = story.conditions("Ready", "message")
    want = all(_NO_PLUGIN in message for message in messages.values())
    check("for want of a CNI plugin", want, messages)
    pod = {**POD, "containers": [CONTAINER], "topologySpreadConstraints": [_SPREAD]}
    story.cluster.control.apply(deployment({"name": APP, "namespace": "default"}, pod, PODS))
    pending = ["Pending"] * PODS
    _becomes(check, f"{PODS} pods wait for a node", lambda: _phases(story), pending)


_NO_PLUGIN = "Network plugin returns error: cni plugin not initialized"
_SPREAD = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": APP}},
}


def _on_all(status: str) -> dict[str, str]:
    return dict.fromkeys(NODES, status)


def _phases(story: Story) -> list[str]:
    items = story.cluster.control.get("pods", "--namespace=default")["items"]
    return [item["status"]["phase"] for item in items]


@STEPS.step("apply")
def apply(story: Story, check: Checks) -> None:
    """kubectl apply -k."""
    image = story.images.first
    story.import_image(image)
    began = time.monotonic()
    story.overlay.write(image, "cni-repair")
    story.apply()
    _, ready = _timed(lambda: story.conditions("Ready"), _on_all("True"))
    seconds = time.monotonic() - began
    check(f"the nodes are Ready {seconds:.0f} s after it", ready == _on_all("True"), ready)
    _, count = _timed(lambda: len(story.pods()), PODS)
    seconds = time.monotonic() - began
    check(f"the pods run {seconds:.0f} s after it", count == PODS, count)
    story.begin_with(story.pods())
    nodes = sorted(pod.node for pod in story.before.values())
    check("two on each node", nodes == sorted(NODES * 2), nodes)
    wrong = {
        name: (pod.ip, story.interfaces[name])
        for name, pod in story.before.items()
        if story.interfaces[name]["inet"] != [(pod.ip, 24)]
    }
    check("each with an eth0 that has its podIP", not wrong, wrong)
    lost = partial(story.conditions, CONDITION)
    _becomes(check, f"condition {CONDITION} of every node: False", lost, _on_all("False"))


@STEPS.step("loss")
def loss(story: Story, check: Checks) -> None:
    """Every node loses its NIC; nobody calls anything."""
    began = time.monotonic()
    story.cluster.lose_nics()
    left = [name for name, pod in story.before.items() if interface(pod)]
    check("NICs lost on all nodes: no pod has an eth0", not left, left)
    lost = partial(story.conditions, CONDITION)
    _becomes(check, f"condition {CONDITION} of every node: True", lost, _on_all("True"))
    for connection in story.connections.values():
        connection.send(_MEANWHILE)
    story.cluster.bring_nics_back()
    check.succeeds("NICs back: TCP connections carry what was sent meanwhile", story.answer)
    check.outage = f"{time.monotonic() - began:.1f} s"
    changed = {
        name: now
        for name, pod in story.before.items()
        if (now := interface(pod)) != story.interfaces[name]
    }
    check("every eth0 is as before: index, MAC, addresses, routes", not changed, changed)
    _check_same_pods(story, check)
    _becomes(check, f"condition {CONDITION} of every node: False", lost, _on_all("False"))
    for reason in _REASONS:
        seen = partial(story.events, reason)
        _becomes(check, f"an Event {reason} of every node", seen, list(NODES))


def _check_same_pods(story: Story, check: Checks) -> None:
    now = story.pods()
    same = {name: now.get(name) for name in story.before} == story.before
    check("the same pods with the same containers, none was restarted", same, now)


@STEPS.step("update")
def update(story: Story, check: Checks) -> None:
    """A new version is rolled out, while pods talk and others are made."""
    image = story.images.second
    story.import_image(image)
    story.overlay.write(image, "cni-repair")
    nodes = list(story.cluster.nodes.values())
    with (
        Polling(partial(plugins_are_there, nodes), 0.005) as looks,
        Polling(partial(plugins_answer, nodes), 0.3) as calls,
        Polling(partial(connections_carry, dict(story.connections)), 0.1) as talks,
    ):
        story.apply()
        story.cluster.control.kubectl("scale", f"deployment/{APP}", f"--replicas={MORE_PODS}")
        check.succeeds("the rollout comes to its end", story.wait_rollout)
        _, count = _timed(lambda: len(story.pods()), MORE_PODS)
        check("pods that are made meanwhile run", count == MORE_PODS, count)
    versions = story.versions()
    check("every node has the new version", versions == _on_all(image.tag), versions)
    check("no node was without a plugin at any look", looks.was_well, looks.wrong)
    check("each call of VERSION was answered, on every node", calls.was_well, calls.wrong)
    check(f"TCP connections carried on, with pauses of at most {talks.longest:.1f} s",
          talks.was_well, talks.wrong)  # fmt: skip
    failed = story.events("FailedCreatePodSandBox")
    check("no ADD failed", not failed, failed)
    _check_same_pods(story, check)


@STEPS.step("uninstall")
def uninstall(story: Story, check: Checks) -> None:
    """cni-repair is taken away."""
    control = story.cluster.control
    story.overlay.write(story.images.second, "cni-repair", uninstall=True)
    story.apply()
    _becomes(check, "uninstall: refused while pods need it", story.refusing, list(NODES))
    there = story.versions()
    check("it is still there", there == _on_all(story.images.second.tag), there)
    story.overlay.write(story.images.second, "macvlan", uninstall=True)
    story.apply()
    control.kubectl("rollout", "status", f"daemonset/{NETWORK}", *_IN_OURS, _TIMEOUT)
    story.close()
    control.kubectl("rollout", "restart", f"deployment/{APP}")
    _becomes(
        check, "once no pod and no configuration does: taken away", story.versions, _on_all("")
    )
    _becomes(check, "nothing of it is left in /opt", story.leftovers, [])
    check.succeeds("the DaemonSet is ready then", story.wait_rollout)
    lost = story.conditions(CONDITION)
    check(f"no node has a condition {CONDITION} any more", not lost, lost)
    control.kubectl("delete", "-k", str(story.overlay.directory), "--wait=true")
    _, count = _timed(lambda: len(story.pods()), MORE_PODS)
    check("the pods run by macvlan alone", count == MORE_PODS, count)
    ready = story.conditions("Ready")
    check("the nodes are Ready", ready == _on_all("True"), ready)


_REFUSED = "not taken away"
_IN_OURS = (f"--namespace={NAMESPACE}",)
_TIMEOUT = f"--timeout={_SECONDS:.0f}s"
