"""The pods are containerd's, and nobody tells it that anything has happened."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

from integration.driver.checks import Checks
from integration.driver.node import Cri, Netns, Node
from integration.driver.scenarios.common import (
    CHECKPOINTS,
    Json,
    check_lost,
    check_pings,
    check_pod_pings,
    check_repaired,
    check_same,
)

_NAMES = ("web-1", "web-2", "web-3")
_HOST_LOCAL = Path("/var/lib/cni/networks/pods")


def containerd(node: Node, check: Checks) -> None:
    """Pods outlive a reload; they can be stopped after one, and in the middle of one."""
    node.up()
    cri = node.containerd()
    pods = make_pods(node, cri)
    wire = node.watch(list(pods.values()))
    before, eth0s = facts(cri), node.interfaces()
    since = node.unload()
    check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
    node.load()
    node.up()
    check_repaired(check, node, node.cni("REPAIR"))
    check_same(check, node, eth0s)
    now = facts(cri)
    check_kept(check, before, now)
    check_addresses(check, before, now, node.interfaces())
    check_pings(check, wire, eth0s, since)
    check.outage = wire.outage(since)
    first, second, third = pods
    check_freed(check, "StopPodSandbox", cri, first)
    node.unload()
    check_freed(check, "StopPodSandbox while the driver is out", cri, second)
    node.load()
    node.up()
    answer = node.cni("REPAIR")
    check_repaired(check, node, answer)
    found = [one["containerID"] for one in answer.document["attachments"]]
    check("REPAIR knows of no other pod than the one that was not stopped", found == [third], found)
    check_pod_pings(check, wire, pods[third])


def make_pods(node: Node, cri: Cri) -> dict[str, Netns]:
    """Pods of one container each; their network namespaces by the ids of their sandboxes."""
    with concurrent.futures.ThreadPoolExecutor() as pool:  # as kubelet does it
        ids = list(pool.map(cri.run_sandbox, _NAMES))
        list(pool.map(cri.run_container, ids))
    return {one: node.named(cri.sandbox(one).netns, name) for one, name in zip(ids, _NAMES)}


def facts(cri: Cri) -> Json:
    """What containerd tells of its pods, and of each process of them when it was started."""
    sandboxes, containers = cri.sandboxes(), cri.containers()
    pids = [one.pid for one in sandboxes] + [cri.pid(one.id) for one in containers]
    return {
        "sandboxes": sorted((one.id, one.attempt, one.ready) for one in sandboxes),
        "containers": sorted((one.id, one.attempt, one.running) for one in containers),
        "addresses": {one.name: sorted([one.ip, *one.ips]) for one in sandboxes},
        "started": {pid: start_time(pid) for pid in pids},
    }


def start_time(pid: int) -> str:
    """In ticks since the boot (proc(5)); empty where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def check_kept(check: Checks, before: Json, now: Json) -> None:
    """No pod was rebuilt."""
    for key in ("sandboxes", "containers"):
        fine = all(attempt == 0 and up for _, attempt, up in now[key])
        check(
            f"containerd: the same {key} as before, all of them up, attempt 0",
            fine and len(now[key]) == len(_NAMES) and now[key] == before[key],
            f"{before[key]} became {now[key]}",
        )
    check(
        "every process of the pods has the same id and start time as before",
        all(now["started"].values()) and now["started"] == before["started"],
        f"{before['started']} became {now['started']}",
    )


def check_addresses(check: Checks, before: Json, now: Json, eth0s: Json) -> None:
    """What containerd tells, and what there really is."""
    live = {
        name: sorted(at["local"] for at in eth0["addresses"] if at["scope"] == "global")
        for name, eth0 in eth0s.items()
    }
    check(
        "PodSandboxStatus tells the same addresses as before, and eth0 has just these",
        before["addresses"] == now["addresses"] == live and all(map(len, live.values())),
        f"{before['addresses']} became {now['addresses']}; on eth0 {live}",
    )


def check_freed(check: Checks, what: str, cri: Cri, sandbox_id: str) -> None:
    """Stop a pod: nothing is left of its network."""
    had = reserved(sandbox_id)
    check.succeeds(f"{what}: no error", lambda: cri.stop_sandbox(sandbox_id))
    kept = reserved(sandbox_id)
    check(
        f"{what}: its two addresses are free (host-local has no file of them)",
        len(had) == 2 and not kept,
        kept,
    )
    checkpoints = list(CHECKPOINTS.glob(f"*{sandbox_id}*"))
    check(f"{what}: its checkpoint is gone", not checkpoints, checkpoints)


def reserved(sandbox_id: str) -> list[str]:
    """The addresses that host-local has given to a sandbox: a file each, with its id."""
    return [path.name for path in _HOST_LOCAL.glob("*[.:]*") if sandbox_id in path.read_text()]


SCENARIOS = {"containerd": containerd}
