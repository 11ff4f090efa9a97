"""`adopt` on a node whose pods the bare plugins attached through a real containerd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import GATEWAY, Lab, poll_until
from integration.containerd.runtime import Containerd
from integration.kubelet.private import OWN, enter_private, show_system
from tests.patience import HANG_SECONDS
from tests.privately import plugin_in, told_by

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # it may have to be downloaded

_CONF_DIR = OWN / "net.d"
_CHECKPOINTS = Path("/var/lib/cni-repair/checkpoints")
_CACHE = Path("/var/lib/cni/results")


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What :func:`on_private_machine` saw; one run serves all tests."""
    return told_by(__file__, 900)


def on_private_machine(cgroup: str) -> None:
    """The life of a node's pods, from before there was a cni-repair."""
    enter_private(cgroup)
    with Lab(ipv6=False) as lab:
        show_system(lab.node)
        enter = ["nsenter", f"--net={lab.node.path}"]
        plugins = [plugin_in(OWN / "bin"), Path("/usr/lib/cni")]
        _CONF_DIR.mkdir()
        with Containerd(OWN / "containerd", plugins, _CONF_DIR, enter=enter) as containerd:
            print(json.dumps(_Story(lab, containerd).told()))


class _Story:
    """What happens, and what is seen of it."""

    def __init__(self, lab: Lab, containerd: Containerd) -> None:
        self._lab = lab
        self._cri = containerd.cri
        self._containers: dict[str, str] = {}  # a pod's name to its container
        self._ids: dict[str, str] = {}  # … and to its sandbox

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        self._use("macvlan", "pods")
        self._run("web-1", "web-2")
        for kind, subnet in (("bridge", "10.44.0.0/24"), ("ptp", "10.45.0.0/24")):
            self._use(kind, kind, master=None, ipam=self._ipam(subnet))
            self._run(f"by-{kind}")
        self._use("macvlan", "pods")
        before = self._seen()
        told["ids"] = self._ids
        told["cached"] = json.loads(self._cached("web-1").read_text())
        told["table"] = self._lab.cli("adopt").stdout
        told["nothing"] = _CHECKPOINTS.exists()
        told["written"] = self._adopt()
        told["again"] = self._adopt()
        told["untouched"] = self._seen() == before
        self._run("late")
        told["unadopted"] = self._lab.cli("snapshot", "--check").stdout
        before = self._seen()
        self._lab.uplink_lost()
        told["lost"] = [self._pings(name) for name in before]
        told["late"] = self._adopt()
        self._lab.uplink_back()
        told["repair"] = self._lab.cli("repair", "--all").stdout
        told["pings"] = [self._pings(name) for name in before]
        told["same"] = {name: self._seen()[name] == before[name] for name in before}
        told["del"] = self._delete_both_ways()
        return told

    def _delete_both_ways(self) -> dict[str, Any]:
        """One pod after its network became cni-repair's, one while it is the macvlan plugin's."""
        told: dict[str, Any] = {"leases": [self._leases()]}
        self._use("cni-repair", "pods")
        self._cri.stop_sandbox(self._ids["web-1"])
        told["ours"] = self._kept()
        told["leases"].append(self._leases())
        self._use("macvlan", "pods")
        self._cri.stop_sandbox(self._ids["web-2"])
        told["theirs"] = self._kept()
        told["leases"].append(self._leases())
        told["leftover"] = self._lab.cli("adopt").stdout
        told["removed"] = self._adopt()
        told["in the end"] = self._kept()
        return told

    def _use(self, kind: str, network: str, **changes: Any) -> None:
        """Have containerd use another network; it looks at its directory by itself."""
        netconf = self._lab.netconf(type=kind, name=network, **changes)
        if kind != "cni-repair":
            netconf = {k: v for k, v in netconf.items() if k not in ("checkpointDir", "runDir")}
        shared = {key: netconf.pop(key) for key in ("cniVersion", "name")}
        if kind == "cni-repair":
            del netconf["checkpointDir"], netconf["runDir"]
        for file in _CONF_DIR.iterdir():
            file.unlink()
        self._wait_for_network(False)
        text = json.dumps({**shared, "plugins": [netconf]})
        (_CONF_DIR / f"10-{network}.conflist").write_text(text)
        self._wait_for_network(True)

    def _wait_for_network(self, there: bool) -> None:
        def is_so() -> bool:
            return self._cri.ready()["NetworkReady"] == there

        poll_until(is_so, HANG_SECONDS, "containerd to look at its networks")

    def _ipam(self, subnet: str) -> dict[str, Any]:
        return {"type": "host-local", "dataDir": self._lab.ipam_dir, "subnet": subnet}

    def _run(self, *names: str) -> None:
        for name in names:
            self._ids[name] = self._cri.run_sandbox(name, "shop")
            self._containers[name] = self._cri.run_container(self._ids[name], "sleep", "1000")

    def _pings(self, name: str) -> bool:
        command = ("ping", "-c", "1", "-W", "30", GATEWAY)
        return self._cri.execute(self._containers[name], *command)[0] == 0

    def _seen(self) -> dict[str, Any]:
        """The macvlan pods as the runtime sees them, and their addresses and routes."""
        return {
            name: {
                "sandbox": vars(self._cri.sandbox(self._ids[name])),
                "pid": self._cri.pid(container),
                # Not the link-local one of IPv6: it is tentative at first, and then it is not.
                "link": self._ip(container, "link", "show", "dev", "eth0"),
                "address": self._ip(container, "-4", "address", "show", "dev", "eth0"),
                "routes": self._cri.execute(container, "ip", "route")[1],
            }
            for name, container in self._containers.items()
            if not name.startswith("by-")
        }

    def _ip(self, container: str, *words: str) -> str:
        """What the container's own `ip` says, without the line of the indices."""
        said = self._cri.execute(container, "ip", *words)[1]
        return "\n".join(line for line in said.splitlines() if line.startswith(" "))

    def _adopt(self) -> dict[str, Any]:
        done = self._lab.cli("adopt", "--write", "-o", "json")
        return {"status": done.returncode, **done.document, "stderr": done.stderr}

    def _cached(self, name: str) -> Path:
        (path,) = _CACHE.glob(f"*-{self._ids[name]}-eth0")
        return path

    def _kept(self) -> list[str]:
        return sorted(path.name for path in _CHECKPOINTS.iterdir())

    def _leases(self) -> list[str]:
        return sorted(path.name for path in Path(self._lab.ipam_dir, "pods").glob("10.*"))


def states(told: dict[str, Any], report: dict[str, Any]) -> dict[str, str]:
    """Pod to state."""
    names = {sandbox: name for name, sandbox in told["ids"].items()}
    return {names[one["containerID"]]: one["state"] for one in report["attachments"]}


def test_a_dry_run_names_every_pod_and_writes_nothing(told: dict[str, Any]) -> None:
    ids, (_, *lines) = told["ids"], told["table"].splitlines()
    assert lines == [
        f"adoptable  shop/web-1      {ids['web-1'][:12]}  eth0    eth0    10.9.0.2",
        f"adoptable  shop/web-2      {ids['web-2'][:12]}  eth0    eth0    10.9.0.3",
        f"skipped    shop/by-bridge  {ids['by-bridge'][:12]}  eth0    -       -",
        "    eth0 is a veth link, made by plugin bridge",
        f"skipped    shop/by-ptp     {ids['by-ptp'][:12]}  eth0    -       -",
        "    eth0 is a veth link, made by plugin ptp",
        "4 attachments: 2 adoptable, 2 skipped",
        "dry run: nothing was written; cni-repair adopt --write commits",
    ]
    assert told["nothing"] is False


def test_macvlan_pods_are_adopted_without_being_touched(told: dict[str, Any]) -> None:
    alone = {"by-bridge": "skipped", "by-ptp": "skipped"}
    assert told["written"]["status"] == told["again"]["status"] == 0
    assert states(told, told["written"]) == {"web-1": "adopted", "web-2": "adopted", **alone}
    known = {"web-1": "recorded", "web-2": "recorded", **alone}
    assert states(told, told["again"]) == known
    assert told["untouched"]


def test_a_pod_that_was_not_adopted_is_known_as_such(told: dict[str, Any]) -> None:
    assert "coverage: 2 of 3 interfaces could be restored" in told["unadopted"]


def test_a_lost_pod_is_adopted_from_the_cache(told: dict[str, Any]) -> None:
    assert told["lost"] == [False] * 3
    assert states(told, told["late"])["late"] == "adopted"
    (late,) = (one for one in told["late"]["attachments"] if one["pod"] == "shop/late")
    assert "sockets bound to eth0 will not recover" in late["notKnown"][0]


def test_repair_brings_all_of_them_back_in_the_same_sandboxes(told: dict[str, Any]) -> None:
    assert told["repair"].splitlines()[-1] == "3 attachments: 3 healthy"
    assert told["pings"] == [True] * 3
    assert told["same"] == {"web-1": True, "web-2": True, "late": True}


def test_del_forgets_them_or_adopt_does(told: dict[str, Any]) -> None:
    ids, deleted = told["ids"], told["del"]
    web_1, web_2, late = (f"{ids[name]}@eth0.json" for name in ("web-1", "web-2", "late"))
    assert deleted["ours"] == sorted([web_2, late])
    assert deleted["theirs"] == sorted([web_2, late])
    assert deleted["leases"] == [
        ["10.9.0.2", "10.9.0.3", "10.9.0.4"],
        ["10.9.0.3", "10.9.0.4"],
        ["10.9.0.4"],
    ]
    assert web_1 not in deleted["theirs"]
    assert "1 leftover" in deleted["leftover"]
    assert states(told, deleted["removed"])["web-2"] == "removed"
    assert deleted["in the end"] == [late]


def test_the_cache_is_as_the_unit_tests_have_it(told: dict[str, Any]) -> None:
    cached = told["cached"]
    # libcni 1.1, which it is built with, does not write the netns down.
    assert list(cached) == [
        "kind", "containerId", "config", "ifName", "networkName", "cniArgs", "capabilityArgs",
        "result",
    ]  # fmt: skip
    assert cached["kind"] == "cniCacheV1"
    assert {name for name, _ in cached["cniArgs"]} == {
        "IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID",
        "K8S_POD_UID",
    }  # fmt: skip
