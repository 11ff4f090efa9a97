"""The throwaway node on which the pages' commands are played, and the events that befall it.

It is the lab's node (veth pair for an uplink, the real macvlan and host-local) with three pods of
the namespace shop. Commands see directories of their own in the place of /var/lib (records, leases,
the runtime's cache), of /usr/local/sbin (cni-repair, sudo, the driver's upgrade script), of /opt,
/usr/local/share and, once it is installed there, /etc (an installation, and the network's
configuration), and of /mnt, where they are run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import PATH, SETTLE_SECONDS, Lab, LabError, Netns, Outcome, poll_until
from tests.journal import PREPARE, journald
from tests.manual import REPOSITORY

Json = dict[str, Any]

PODS = ("web-1", "web-2", "db-0")
IPAM: Json = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}]],
    "routes": [{"dst": "0.0.0.0/0"}],
}
CONF: Json = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "type": "cni-repair",
    "master": "eth0",
    "mode": "bridge",
    "ipam": IPAM,
}
# For a plugin that attaches pods without a master: its link is none of ours.
BRIDGE: Json = {
    "cniVersion": "1.0.0",
    "name": "bridged",
    "type": "bridge",
    "bridge": "cni0",
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.44.0.0/24"}]]},
}
# The machine's own are not to be seen, nor touched.
_ENTER = """
mount --bind "$1/lib" /var/lib
mount --bind "$1/sbin" /usr/local/sbin
mount --bind "$1/home" /mnt
mount --bind "$1/opt" /opt
mount --bind "$1/share" /usr/local/share
[ ! -d "$1/journal" ] || {
    mount --bind "$1/journal" /run/systemd
    mkdir -p /run/log
    mount --bind "$1/journal/files" /run/log
    mount -t tmpfs log /var/log
    journalctl --sync
}
[ ! -d "$1/etc" ] || mount --bind "$1/etc" /etc
cd /mnt
exec "${@:2}"
"""
# What rmmod and modprobe do to the node, and what a card does that stays away.
_TAKE = "ip link delete eth0"
_GIVE = """\
ip link add eth0 address 02:00:00:00:09:02 type veth \
    peer name tor0 address 02:00:00:00:09:01 netns {tor}
ip -n {tor} address add 10.9.0.1/24 dev tor0
ip -n {tor} link set tor0 up
ip link set eth0 up
"""


def container_id(pod: str) -> str:
    """The same at each run, and as random as a runtime's."""
    return hashlib.sha256(pod.encode()).hexdigest()


class ManualNode:
    """A node without pods; `after` has it live through what a page's comments name."""

    def __init__(self) -> None:
        self._lab = Lab(name="cni", detect_duplicates=False, ipv6=False)
        self._lab.__enter__()
        self._namespaces: dict[str, Netns] = {}
        self._watcher: subprocess.Popen[bytes] | None = None
        self._journald = ExitStack()
        self._base = self._lab.directory
        for name in ("lib", "sbin", "home", "opt", "share"):
            (self._base / name).mkdir()
        for name in ("conf", "install.sh", "cni_repair"):
            (self._base / "home" / name).symlink_to(REPOSITORY / name)
        self._script("sbin/cni-repair", f'exec {shlex.join(self._lab.command)} "$@"\n')
        self._script("sbin/sudo", 'exec "$@"\n')
        self._script("sbin/upgrade-i40e", f"set -e\n{_TAKE}\nsleep 0.3\n{self._give()}")

    def close(self) -> None:
        self._end_watcher(signal.SIGTERM)
        self._journald.close()
        shutil.rmtree("/run/cni-repair", ignore_errors=True)  # the locks: that /run is our own
        self._lab.__exit__(None, None, None)

    def write(self, name: str, text: str) -> None:
        (self._base / "home" / name).write_text(text, encoding="utf-8")

    def run(self, command: str) -> str:
        """What a shell on the node prints, on stdout and stderr, whatever its exit status is."""
        done = self._enter(["bash", "-c", f"exec 2>&1\n{command}"])
        return done.stdout + done.stderr

    def after(self, event: str) -> None:
        """Have one of `EVENTS` happen."""
        name, _, pod = event.partition(" of ")
        if name not in EVENTS:
            raise LookupError(f"{event}: the events are {', '.join(EVENTS)} (… of POD)")
        EVENTS[name](self, *([pod] if pod else []))

    # --- Events ---

    def keep_journal(self) -> None:
        """What happens from now on is written down, by a journald of the node's own."""
        place = self._base / "journal"
        (place / "files").mkdir(parents=True)
        Path("/run/systemd").mkdir(exist_ok=True)
        within = f"mount --bind {place} /run/systemd\n{PREPARE}"
        within += f'mount --bind {place}/files /run/log\nexec "$@"'
        enter = ["unshare", "--mount", "sh", "-euc", within, "-"]
        self._journald.enter_context(journald(enter, f"{place}/journal/socket"))

    def attach_pods(self) -> None:
        for pod in PODS:
            self.attach(pod)

    def attach(self, pod: str) -> None:
        self._cni("ADD", pod, CONF)

    def attach_bare(self, pod: str, conf: Json | None = None) -> None:
        """As a runtime has another plugin attach a pod, and remembers it."""
        conf = conf or {**CONF, "type": "macvlan"}
        done = self._cni("ADD", pod, conf, plugin=str(conf["type"]))
        netns = self._namespaces[pod].path
        entry = {
            "kind": "cniCacheV1",
            "containerId": container_id(pod),
            "config": base64.b64encode(json.dumps({**conf, "plugins": [conf]}).encode()).decode(),
            "ifName": "eth0",
            "networkName": conf["name"],
            "netns": netns,
            "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", pod]],
            "result": done.document,
        }
        file = self._cache(pod, conf)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(json.dumps(entry), encoding="utf-8")
        file.chmod(0o600)

    def attach_bare_pods(self) -> None:
        for pod in PODS[:2]:
            self.attach_bare(pod)
        self.attach_bare("dns-0", BRIDGE)

    def end_without_us(self, pod: str) -> None:
        """The runtime deletes a pod by the plugin that attached it."""
        conf = {**CONF, "type": "macvlan"}
        self._cni("DEL", pod, conf, plugin="macvlan")
        self._cache(pod, conf).unlink(missing_ok=True)
        self.end(pod)

    def delete(self, pod: str) -> None:
        """The runtime deletes a pod by cni-repair."""
        self._cni("DEL", pod, CONF)
        self.end(pod)

    def end(self, pod: str) -> None:
        """A pod's namespace goes; nobody calls DEL."""
        self._on_node(f"ip netns delete {self._namespaces.pop(pod).name}")

    def lose_uplink(self) -> None:
        self._on_node(_TAKE)

    def return_uplink(self) -> None:
        self._on_node(self._give())

    def take_name_of_uplink(self) -> None:
        """Something else is called eth0 once the card is gone."""
        self._on_node("ip link add eth0 type bridge; ip link set eth0 up")

    def take_mac(self, pod: str) -> None:
        """The node makes a link of its own with a pod's MAC."""
        mac = json.loads(self._record(pod).read_text(encoding="utf-8"))["link"]["mac"]
        self._on_node(f"ip link add link eth0 name shim0 address {mac} type macvlan mode bridge")
        self._on_node("ip link set shim0 up")

    def upgrade_script_fails_to_return_it(self) -> None:
        self._script("sbin/upgrade-i40e", f"set -e\n{_TAKE}\n")

    def delete_route(self, pod: str) -> None:
        self._in_pod(pod, "route delete default")

    def delete_link(self, pod: str) -> None:
        self._in_pod(pod, "link delete eth0")

    def bring_records_up_to_date(self) -> None:
        self._on_node("cni-repair snapshot")

    def change_mtu(self, pod: str) -> None:
        self._in_pod(pod, "link set eth0 mtu 1400")

    def add_neighbour(self, pod: str) -> None:
        self._in_pod(pod, "neighbour add 10.9.0.99 lladdr 02:00:00:00:00:99 dev eth0")

    def delete_neighbour(self, pod: str) -> None:
        self._in_pod(pod, "neighbour delete 10.9.0.99 dev eth0")

    def squat(self, pod: str) -> None:
        """A pod makes an eth0 of its own."""
        self._in_pod(pod, "link add eth0 type veth peer name far0")

    def rename(self, pod: str) -> None:
        """A pod calls its interface something else."""
        for words in ("down", "name net0", "up"):
            self._in_pod(pod, f"link set {'net0' if words == 'up' else 'eth0'} {words}")

    def free_address(self, pod: str) -> None:
        """A DEL that came to the bare plugin, while the pod's namespace is still there."""
        self._cni("DEL", pod, {**CONF, "type": "macvlan"}, plugin="macvlan")

    def silence_gateway(self) -> None:
        self._on_node(f"ip -n {self._lab.tor.name} link set tor0 arp off")

    def take_address(self, pod: str) -> None:
        """Another host on the wire has a pod's address."""
        host, address = self._lab.add_pod(), f"10.9.0.{2 + PODS.index(pod)}"
        link = f"name eth0 netns {host.name} link tor0 type macvlan mode bridge"
        self._on_node(f"ip -n {self._lab.tor.name} link add {link}")
        self._on_node(f"ip -n {host.name} link set eth0 up")
        self._on_node(f"ip -n {host.name} address add {address}/24 dev eth0")

    def lose_leases(self) -> None:
        """What host-local remembers is gone: nobody but the wire can tell whose an address is."""
        shutil.rmtree(self._base / "lib/cni/networks")

    def damage_record(self, pod: str) -> None:
        """A byte is not what it was."""
        file = self._record(pod)
        file.write_text(file.read_text(encoding="utf-8").replace('"mtu"', '"mtv"', 1), "utf-8")

    def install(self) -> None:
        """What install.sh leaves on a node, as far as its --uninstall looks at it; and the network
        is configured."""
        prefix, version = self._base / "opt/cni-repair", "0.1.0-20261123T055208Z-8775"
        home = prefix / "versions" / version
        (home / "bin").mkdir(parents=True)
        (home / "bin-dir").write_text("/opt/cni/bin\n", encoding="utf-8")
        (self._base / "opt/cni/bin").mkdir(parents=True)
        launcher = self._base / "opt/cni/bin/cni-repair"
        launcher.write_text(
            f"#!/opt/cni-repair/versions/{version}/bin/python3 -IS\n", encoding="utf-8"
        )
        # Not every machine has a mount point /etc/cni.
        self._on_node(f"cp -a /etc {self._base}/etc")
        networks = self._base / "etc/cni/net.d"
        networks.mkdir(parents=True, exist_ok=True)
        (networks / "10-pods.conf").write_text(json.dumps(CONF, indent=2) + "\n", "utf-8")

    def write_mistyped(self) -> None:
        self.write("mistyped.conf", json.dumps({**CONF, "vlanId": 5000}))
        network = {**CONF, "mode": "brdige", "vlan": 3}
        definition = {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "pods"},
            "spec": {"config": json.dumps(network)},
        }
        self.write("nad.yaml", json.dumps(definition, indent=2))  # which YAML is, too

    # --- The watcher ---

    def start_watcher(self) -> None:
        """By watch.yaml, where the page has such a file; until it has looked at all pods."""
        config = ["--config", "watch.yaml"] if (self._base / "home/watch.yaml").exists() else []
        command = self._lab.ground.entering(self._lab.node)
        command += self._entering(["cni-repair", "watch", *config])
        with (self._base / "home/watch.log").open("wb") as log:
            self._watcher = subprocess.Popen(
                command, env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        count = len(list((self._base / "lib/cni-repair/checkpoints").glob("*.json")))
        self._until(lambda status: status["lastLook"] and _count(status) == count)

    def watcher_sees_all_lost(self) -> None:
        """And has their repair prepared."""
        self._until(
            lambda status: status["armed"] == status["attachments"].get("lost") == len(PODS)
        )

    def watcher_heals_all(self) -> None:
        self._until(lambda status: {*status["attachments"]} == {"healthy"} and _all_up(status))

    def watcher_heals_others(self) -> None:
        """But one, which it refuses."""
        self._until(
            lambda status: (
                status["refused"]
                and status["attachments"].get("healthy") == len(PODS) - 1
                and _all_up(status)
            )
        )

    def kill_watcher(self) -> None:
        self._end_watcher(signal.SIGKILL)

    def _until(self, test: Callable[[Json], Any]) -> None:
        """Until its status is as it should be."""
        file = Path("/run/cni-repair/watch.json")

        def look() -> bool:
            assert self._watcher is not None
            if self._watcher.poll() is not None:
                raise RuntimeError((self._base / "home/watch.log").read_text())
            status = json.loads(file.read_text()) if file.exists() else {"pid": 0}
            return status["pid"] == self._watcher.pid and bool(test(status))

        try:
            poll_until(look, SETTLE_SECONDS, "the watcher's status")
        except LabError as error:
            said = (self._base / "home/watch.log").read_text()
            raise LabError(f"{error}: {file.read_text()}\n{said}") from error

    def _end_watcher(self, number: signal.Signals) -> None:
        if self._watcher is not None:
            self._watcher.send_signal(number)
            self._watcher.wait(SETTLE_SECONDS)
            self._watcher = None

    # --- What they need ---

    def _cni(self, verb: str, pod: str, conf: Json, plugin: str = "") -> Outcome:
        if pod not in self._namespaces:
            self._namespaces[pod] = self._lab.add_pod()
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container_id(pod),
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": self._namespaces[pod].path,
            "CNI_PATH": self._lab.cni_path,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod}",
        }
        command = f"{self._lab.cni_path}/{plugin}" if plugin else "cni-repair"
        done = self._enter([command], environment, json.dumps(conf))
        if done.returncode != 0:
            raise RuntimeError(f"{verb} of {pod}: {done.stdout} {done.stderr}")
        return done

    def _enter(self, command: list[str], env: Json | None = None, stdin: str = "") -> Outcome:
        return self._lab.run(self._lab.node, self._entering(command), env=env, stdin=stdin)

    def _entering(self, command: list[str]) -> list[str]:
        return ["bash", "-euc", _ENTER, "-", str(self._base), *command]

    def _on_node(self, script: str) -> None:
        done = self._enter(["sh", "-euc", script])
        if done.returncode != 0:
            raise RuntimeError(f"{script}: {done.stderr}")

    def _in_pod(self, pod: str, words: str) -> None:
        self._lab.ip(self._namespaces[pod], *words.split())

    def _give(self) -> str:
        return _GIVE.format(tor=self._lab.tor.name)

    def _record(self, pod: str) -> Path:
        return self._base / f"lib/cni-repair/checkpoints/{container_id(pod)}@eth0.json"

    def _cache(self, pod: str, conf: Json) -> Path:
        return self._base / f"lib/cni/results/{conf['name']}-{container_id(pod)}-eth0"

    def _script(self, name: str, body: str) -> None:
        path = self._base / name
        path.write_text(f"#!/bin/bash\n{body}", encoding="utf-8")
        os.chmod(path, 0o755)


def _count(status: Json) -> int:
    return sum(status["attachments"].values())


def _all_up(status: Json) -> bool:
    return all(master["carrier"] for master in status["masters"])


EVENTS: dict[str, Callable[..., None]] = {
    "installed": ManualNode.install,
    "journal": ManualNode.keep_journal,
    "three pods": ManualNode.attach_pods,
    "pods without us": ManualNode.attach_bare_pods,
    "a pod without us": ManualNode.attach_bare,
    "the DEL that goes elsewhere": ManualNode.end_without_us,
    "uplink lost": ManualNode.lose_uplink,
    "uplink back": ManualNode.return_uplink,
    "another link named eth0": ManualNode.take_name_of_uplink,
    "MAC taken": ManualNode.take_mac,
    "uplink that will stay away": ManualNode.upgrade_script_fails_to_return_it,
    "route deleted": ManualNode.delete_route,
    "link gone": ManualNode.delete_link,
    "snapshot": ManualNode.bring_records_up_to_date,
    "MTU changed": ManualNode.change_mtu,
    "neighbour added": ManualNode.add_neighbour,
    "neighbour deleted": ManualNode.delete_neighbour,
    "strange eth0": ManualNode.squat,
    "interface renamed": ManualNode.rename,
    "address freed": ManualNode.free_address,
    "end": ManualNode.end,
    "deletion": ManualNode.delete,
    "gateway silent": ManualNode.silence_gateway,
    "address taken": ManualNode.take_address,
    "leases gone": ManualNode.lose_leases,
    "record damaged": ManualNode.damage_record,
    "mistyped.conf": ManualNode.write_mistyped,
    "watcher": ManualNode.start_watcher,
    "watcher sees the loss": ManualNode.watcher_sees_all_lost,
    "watcher has healed": ManualNode.watcher_heals_all,
    "watcher has healed the others": ManualNode.watcher_heals_others,
    "watcher killed": ManualNode.kill_watcher,
}
