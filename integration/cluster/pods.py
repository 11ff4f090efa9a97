"""Pods, as the API server tells of them, and what they have on their nodes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from cni_repair.demo.lab import Connection, LabError, inside
from integration.cluster.cluster import TOR, Cluster

_WATCHED = ("ifindex", "address", "mtu", "flags", "operstate")


@dataclass(frozen=True)
class Pod:
    """A pod that runs."""

    name: str
    uid: str
    node: str
    ip: str
    containers: tuple[str, ...]
    restarts: int
    netns: str  # the path


def running(cluster: Cluster, app: str) -> dict[str, Pod]:
    """The pods of that label which run, and are not about to go, by their names."""
    items = cluster.control.get("pods", "--namespace=default", f"--selector=app={app}")["items"]
    found = (item for item in items if _is_ready(item))
    return {item["metadata"]["name"]: _pod(cluster, item) for item in found}


def _is_ready(item: dict[str, Any]) -> bool:
    conditions = item["status"].get("conditions", ())
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in item["metadata"]


def _pod(cluster: Cluster, item: dict[str, Any]) -> Pod:
    statuses = item["status"]["containerStatuses"]
    ids = [status["containerID"].removeprefix("containerd://") for status in statuses]
    node = item["spec"]["nodeName"]
    return Pod(
        name=item["metadata"]["name"],
        uid=item["metadata"]["uid"],
        node=node,
        ip=item["status"]["podIP"],
        containers=tuple(ids),
        restarts=sum(status["restartCount"] for status in statuses),
        netns=f"/proc/{cluster.nodes[node].cri.pid(ids[0])}/ns/net",
    )


def interface(pod: Pod) -> dict[str, Any]:
    """A pod's eth0, and all routes; empty where there is none."""
    try:
        (link,) = _ip(pod, "addr", "show", "dev", "eth0")
    except LabError:
        return {}
    addresses = [
        (one["local"], one["prefixlen"]) for one in link["addr_info"] if one["family"] == "inet"
    ]
    routes = _ip(pod, "route", "show", "table", "all")
    return {name: link[name] for name in _WATCHED} | {"inet": addresses, "routes": routes}


def connect(pod: Pod) -> Connection:
    """A TCP connection between a pod's eth0 and its gateway."""
    return Connection(inside(TOR.path), inside(pod.netns), "eth0")


def _ip(pod: Pod, *words: str) -> Any:
    command = ["nsenter", f"--net={pod.netns}", "ip", "-4", "-j", "-d", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise LabError(f"{pod.name}: {done.stderr.strip()}")
    return json.loads(done.stdout or "[]")
