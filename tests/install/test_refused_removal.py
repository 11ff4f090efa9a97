"""install.sh --uninstall, while something on the node still needs what it would remove."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.install.node import LAUNCHER, PREFIX, REPOSITORY, Node
from tests.patience import eventually

pytestmark = pytest.mark.slow

CONF = "/etc/cni/net.d/10-pods.conf"
STATE, RUN = "/var/lib/cni-repair", "/run/cni-repair"
CHECKPOINTS = f"{STATE}/checkpoints"
JOURNAL = f"{STATE}/upgrade/journal"
LAST = (
    "install.sh: nothing was removed: cni-repair help back-out says in which order to go;"
    " --force removes it all the same"
)
RECORD = (REPOSITORY / "tests/records/0.1.0/add.json").read_text()

Json = dict[str, Any]


def conf(**changes: Any) -> Json:
    """A network over the node's eth0, as in /etc/cni/net.d."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]}
    own = {"cniVersion": "1.0.0", "name": "pods", "type": "cni-repair", "master": "eth0"}
    return {**own, "ipam": ipam, **changes}


def container_id(pod: str) -> str:
    return pod.encode().hex().ljust(64, "0")


def cni(node: Node, verb: str, pod: str, network: Json) -> None:
    """Call a network's plugin as a runtime does, from where runtimes look for plugins."""
    plugin = network["type"]
    directory = "/opt/cni/bin" if plugin == "cni-repair" else "/usr/lib/cni"
    environment = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container_id(pod),
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_PATH": "/usr/lib/cni",
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod}",
    }
    done = node.run(f"{directory}/{plugin}", env=environment, stdin=json.dumps(network))
    assert done.returncode == 0, done.stdout + done.stderr


def attach(node: Node, *pods: str, **changes: Any) -> None:
    for pod in pods:
        node.shell(f"ip netns add {pod}")
        cni(node, "ADD", pod, conf(**changes))


@pytest.fixture
def node(installed_node: Node) -> Node:
    """With an uplink, and no pods."""
    installed_node.shell("ip link add eth0 type veth peer name tor0")
    installed_node.shell("ip link set eth0 up; ip link set tor0 up")
    return installed_node


def write_conf(node: Node, network: Json, name: str = CONF) -> None:
    node.write(name, json.dumps(network))


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What stands against it: stderr without the last line, which is always the same."""
    assert done.returncode == 3, done.stdout + done.stderr
    *lines, last = done.stderr.splitlines()
    assert last == LAST
    assert all(line.startswith("install.sh: ") for line in lines)
    return [line.removeprefix("install.sh: ") for line in lines]


def assert_refused(node: Node, *arguments: str) -> str:
    """Refused for one reason, which is returned; nothing has changed."""
    before = everything(node)
    (line,) = lines_of(node.install("--uninstall", *arguments))
    assert everything(node) == before
    node.answer()
    return line


def everything(node: Node) -> object:
    """All files that an uninstallation may remove."""
    places = ("/opt", "/etc/cni", "/usr/local/sbin", STATE)
    return node.tree(*(place for place in places if node.path(place).exists()))


def assert_removed(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = node.install("--uninstall", *arguments)
    assert done.returncode == 0, done.stderr
    assert not node.path(LAUNCHER).exists()
    assert not node.path(PREFIX).exists()
    return done


# --- Configurations ------------------------------------------------------------------------------


def test_configuration(node: Node) -> None:
    write_conf(node, conf())
    assert assert_refused(node) == (
        f"{CONF} names cni-repair, its pods could be neither added nor deleted:"
        ' change "type" back to "macvlan" there'
    )
    write_conf(node, conf(type="macvlan"))
    done = assert_removed(node)
    assert done.stderr == ""


def test_every_configuration_is_named(node: Node) -> None:
    write_conf(node, conf())
    write_conf(node, {"plugins": [conf(delegate="ipvlan")]}, "/etc/cni/net.d/20.conflist")
    write_conf(node, {"type": "multus", "delegates": [conf()]}, "/etc/cni/multus/net.d/30.conf")
    lines = lines_of(node.install("--uninstall"))
    assert [line.split()[0] for line in lines] == [
        CONF, "/etc/cni/net.d/20.conflist", "/etc/cni/multus/net.d/30.conf",
    ]  # fmt: skip
    assert lines[1].endswith('change "type" back to "ipvlan" there')


def test_configuration_elsewhere(node: Node) -> None:
    for name in ("one", "two"):
        write_conf(node, conf(), f"/opt/{name}/pods.conf")
    given = ["--conf-dir", "/opt/one", "--conf-dir", "/opt/two"]
    lines = lines_of(node.install("--uninstall", *given))
    assert [line.split()[0] for line in lines] == ["/opt/one/pods.conf", "/opt/two/pods.conf"]
    assert_removed(node)


def test_configuration_that_is_torn(node: Node) -> None:
    node.write(CONF, '{"name": "pods", "plug')
    line = assert_refused(node)
    assert line.startswith(f"cannot tell whether {CONF} names cni-repair: Unterminated string")
    assert line.endswith("mend it, or move it away")


def test_forced(node: Node) -> None:
    write_conf(node, conf())
    attach(node, "web-1")
    done = assert_removed(node, "--force", "--purge")
    warnings = done.stderr.splitlines()
    assert len(warnings) == 2
    assert warnings[0].startswith(f"install.sh: warning: {CONF} names cni-repair")
    assert warnings[1].startswith("install.sh: warning: 1 interface of living pods (shop/web-1)")
    assert not node.path(STATE).exists()


# --- Pods ----------------------------------------------------------------------------------------


def test_pods_whose_configuration_was_changed_back(node: Node) -> None:
    """The whole way out."""
    attach(node, "web-1", "web-2")
    write_conf(node, conf(type="macvlan"))
    assert assert_refused(node) == (
        f"2 interfaces of living pods (shop/web-1, shop/web-2) were made by cni-repair (by"
        f" {CHECKPOINTS}), which the runtime may call to delete them (CRI-O, podman and Multus do):"
        " delete these pods first"
    )
    cni(node, "DEL", "web-1", conf())  # as CRI-O does it
    cni(node, "DEL", "web-2", conf(type="macvlan"))  # as containerd does it: the record stays
    assert "1 interface of living pods (shop/web-2) was made" in assert_refused(node)
    node.shell("ip netns delete web-2")
    assert_removed(node)
    attach(node, "web-3", type="macvlan")
    cni(node, "DEL", "web-3", conf(type="macvlan"))


def test_many_pods_are_counted(node: Node) -> None:
    attach(node, *(f"web-{number}" for number in range(1, 8)))
    line = assert_refused(node)
    assert line.startswith("7 interfaces of living pods (shop/web-1, shop/web-2, ")
    assert ", shop/web-5 and 2 more) were made by cni-repair" in line


def test_pod_whose_records_are_elsewhere(node: Node) -> None:
    attach(node, "web-1", checkpointDir="/var/lib/records")
    cache(node, "web-1", conf(checkpointDir="/var/lib/records"))
    assert "made by cni-repair (by /var/lib/cni/results)" in assert_refused(node)


def cache(node: Node, pod: str, network: Json, netns: str = "") -> None:
    """What libcni remembers of an attachment."""
    entry = {
        "kind": "cniCacheV1",
        "containerId": container_id(pod),
        "config": base64.b64encode(json.dumps(network).encode()).decode(),
        "ifName": "eth0",
        "networkName": "pods",
        "netns": netns or f"/run/netns/{pod}",
        "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", pod]],
    }
    node.write(f"/var/lib/cni/results/pods-{container_id(pod)}-eth0", json.dumps(entry), 0o600)


def test_pod_of_which_only_the_runtimes_cache_tells(node: Node) -> None:
    """CRI-O will call at DEL what it called at ADD; the record went with a purge."""
    node.shell("ip netns add web-1; ip netns add web-2")
    cache(node, "web-1", {"name": "pods", "plugins": [conf()]})
    cache(node, "web-2", conf(type="macvlan"))
    cache(node, "gone", conf())
    line = assert_refused(node)
    assert line.startswith("1 interface of living pods (shop/web-1) was made by cni-repair")


def test_pod_of_which_only_multus_tells(node: Node) -> None:
    """Its file names no namespace: its DEL is still to come."""
    delegates = [{"Name": "pods", "Bytes": base64.b64encode(json.dumps(conf()).encode()).decode()}]
    file = f"/var/lib/cni/multus/{container_id('web-1')}"
    node.write(file, json.dumps(delegates), 0o600)
    assert "was made by cni-repair (by /var/lib/cni/multus)" in assert_refused(node)
    node.path(file).unlink()
    assert_removed(node)


def test_record_of_another_boot_needs_nobody(node: Node) -> None:
    write_record(node, RECORD)
    assert_removed(node, "--purge")


def write_record(node: Node, text: str) -> str:
    file = f"{CHECKPOINTS}/{json.loads(RECORD)['containerId']}@eth0.json"
    node.write(file, text, 0o600)
    node.shell(f"chmod 0700 {CHECKPOINTS}")
    return file


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (RECORD[:1000], "is not used"),
        (RECORD.replace('"schemaVersion":1', '"schemaVersion":1,"minReader":99', 1), "99"),
    ],
    ids=["torn", "of a version newer than this install.sh"],
)
def test_record_that_cannot_be_read(node: Node, text: str, why: str) -> None:
    file = write_record(node, text)
    line = assert_refused(node)
    assert line.startswith(f"cannot tell whether {file} is of a living pod: ")
    assert why in line


def test_adopted_pod_keeps_its_record_but_needs_no_plugin(node: Node) -> None:
    """Another plugin made its interface, and will delete it."""
    attach(node, "web-1", type="macvlan")
    cache(node, "web-1", conf(type="macvlan"))
    node.path("/var/lib/cni/results").chmod(0o700)
    adopted = node.run(LAUNCHER, "adopt", "--write")
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    line = assert_refused(node, "--purge")
    assert line == (
        f"1 interface of living pods (shop/web-1) was recorded (by {CHECKPOINTS}), and could not be"
        " repaired any more: keep the records (without --purge)"
    )
    assert_removed(node)


# --- Upgrades and other work ---------------------------------------------------------------------

BEGIN = {"event": "begin", "version": 1, "plan": {}, "planFile": "/p", "options": {}, "pid": 1}


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_journal(node: Node, *events: Json) -> None:
    begin = {**BEGIN, "bootId": boot_id()}
    lines = [json.dumps({"at": 1.0, **event}) for event in (begin, *events)]
    node.write(JOURNAL, "\n".join(lines) + "\n", 0o600)


def test_upgrade_at_work(node: Node) -> None:
    node.path(RUN).mkdir(mode=0o700)
    write_journal(node)
    with node.path(f"{RUN}/upgrade.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert assert_refused(node).startswith("an upgrade is at work on this node")


KUBELET: Json = {"event": "kubelet", "unit": "kubelet.service", "active": True, "masked": False}


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([], "an upgrade was cut short"),
        ([KUBELET, {"event": "end", "status": 1}], "an upgrade still holds the kubelet"),
    ],
)
def test_upgrade_that_is_not_over(node: Node, events: list[Json], why: str) -> None:
    write_journal(node, *events)
    assert assert_refused(node).startswith(why)


def test_upgrade_that_is_over(node: Node) -> None:
    write_journal(node, {"event": "end", "status": 0})
    assert_removed(node)


def test_journal_that_cannot_be_read(node: Node) -> None:
    write_journal(node)
    node.path(JOURNAL).chmod(0o666)  # by anybody's hand
    assert assert_refused(node).startswith("cannot tell whether an upgrade was cut short")


def test_command_at_work(node: Node) -> None:
    """`upgrade --wait`, or a watch: it imports modules when it first needs them."""
    python = f"{PREFIX}/versions/{node.version_in_service()}/bin/python3"
    command = node.command(python, "-c", "print(flush=True); input()", "watch")
    with node.started(command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        line = assert_refused(node)
    assert line.startswith("PID ")
    assert "watch" in line
    assert_removed(node)


def test_a_user_s_process_that_says_it_is_one(node: Node) -> None:
    """Anybody could keep it on the node for ever."""
    python = f"{PREFIX}/versions/{node.version_in_service()}/bin/python3"
    lie = f"echo; exec -a {python} cat"
    nobody = ("/usr/bin/setpriv", "--reuid=65534", "--clear-groups", "/bin/bash", "-c", lie)
    with node.started(node.command(*nobody), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: cmdline.read_bytes().startswith(python.encode()))
        assert_removed(node)


# --- Half of an installation, two of them, none --------------------------------------------------


def test_launcher_that_is_gone_already(node: Node) -> None:
    """What is left would be missed by whoever repairs the installation."""
    write_conf(node, conf())
    node.path(LAUNCHER).unlink()
    assert lines_of(node.install("--uninstall"))[0].startswith(CONF)
    assert node.versions()


def test_prefix_that_is_gone_already(node: Node) -> None:
    write_conf(node, conf())
    node.shell(f"rm -r {PREFIX}")
    assert lines_of(node.install("--uninstall"))[0].startswith(CONF)
    assert node.path(LAUNCHER).exists()


def test_never_installed(node: Node) -> None:
    """Nothing is taken from anybody."""
    write_conf(node, conf())
    done = node.install("--uninstall", "--prefix", "/opt/another", "--bin-dir", "/opt/another-bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cni-repair is not installed in /opt/another\n" in done.stdout


def test_never_installed_but_purged(node: Node) -> None:
    """The records may be needed by another installation, or by the next."""
    attach(node, "web-1")
    line = assert_refused(node, "--purge", "--prefix", "/opt/another", "--bin-dir", "/opt/b")
    assert "was recorded" in line


def test_old_prefix_whose_place_another_has_taken(node: Node, wheels: Path) -> None:
    """The runtime goes on calling the other one."""
    write_conf(node, conf())
    done = node.install("--wheels", str(wheels), "--prefix", "/opt/new")
    assert done.returncode == 0, done.stderr
    done = node.install("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert not node.path(PREFIX).exists()
    node.answer()
    assert lines_of(node.install("--uninstall", "--prefix", "/opt/new"))[0].startswith(CONF)


def test_second_plugin_directory(node: Node) -> None:
    """Both launchers would go: which of them a runtime calls, nobody can tell."""
    write_conf(node, conf())
    second = "/opt/libexec/cni-repair"
    node.write(second, node.path(LAUNCHER).read_text(), 0o755)
    given = ["--bin-dir", "/opt/libexec"]
    assert lines_of(node.install("--uninstall", *given))[0].startswith(CONF)
    write_conf(node, conf(type="macvlan"))
    done = node.install("--uninstall", *given)
    assert done.returncode == 0, done.stderr
    assert not node.path(second).exists()
    assert not node.path(LAUNCHER).exists()


# --- Without what it is asked by -----------------------------------------------------------------


def test_without_the_rest_of_the_checkout(node: Node) -> None:
    node.write("/run/alone/install.sh", (REPOSITORY / "install.sh").read_text(), 0o755)
    done = node.install("--uninstall", source="/run/alone")
    assert lines_of(done) == [
        "no cni_repair beside /run/alone/install.sh: run it from a complete checkout"
    ]
    done = node.install("--uninstall", "--force", source="/run/alone")
    assert done.returncode == 0


def test_without_a_python(node: Node) -> None:
    pythons = [*Path("/usr/bin").glob("python3*"), *Path("/usr/local/bin").glob("python3*")]
    for python in {path.resolve() for path in pythons if os.access(path, os.X_OK)}:
        node.shell(f"mount --bind /bin/false {shlex.quote(str(python))}")
    (line,) = lines_of(node.install("--uninstall"))
    assert line.startswith("no Python 3.10 or newer")
