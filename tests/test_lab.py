"""The lab itself: it keeps off the machine's network, and leaves nothing, however it ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_repair.demo import lab as labs
from cni_repair.demo import machine
from cni_repair.demo.lab import (
    Connection,
    Lab,
    LabError,
    Netns,
    PrivateLab,
    inside,
    isolate,
    kernel_has_vlans,
    poll_until,
    product,
)
from tests.journal import SOCKET
from tests.patience import HANG_SECONDS

REPOSITORY = str(Path(__file__).resolve().parents[1])


def own_netns() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def links(*command: str) -> list[str]:
    done = subprocess.run(
        [*command, "ip", "-o", "link"], capture_output=True, text=True, check=True
    )
    return [line.split()[1].rstrip(":") for line in done.stdout.splitlines()]


def names(lab: Lab, netns: Netns) -> list[str]:
    return [str(link["ifname"]) for link in lab.ip_json(netns, "link")]


def child(code: str, *command: str) -> subprocess.Popen[str]:
    """A Python process of its own; `command` is put before it."""
    return subprocess.Popen(
        [*command, sys.executable, "-c", code],
        env={"PYTHONPATH": REPOSITORY, "PATH": labs.PATH},
        stdout=subprocess.PIPE,
        text=True,
    )


class TestSafety:
    def test_an_open_lab_has_us_in_an_empty_namespace(self) -> None:
        home, before = own_netns(), links()
        with Lab(pods=1) as lab:
            assert own_netns() != home
            assert links() == ["lo"]
            assert names(lab, lab.node) == ["lo", "eth0"]
        assert own_netns() == home
        assert links() == before

    def test_isolating_twice_is_isolating_once(self) -> None:
        before = os.readlink("/proc/self/ns/mnt")
        isolate()
        assert os.readlink("/proc/self/ns/mnt") == before

    def test_the_private_run_shows_the_machines_and_changes_nothing_of_it(
        self, tmp_path: Path
    ) -> None:
        script = """
            mount -t tmpfs none /run
            mkdir -p /run/directory/mounted /run/netns /run/cni-repair
            mount -t tmpfs none /run/directory/mounted
            touch /run/directory/mounted/deep /run/netns/machines /run/cni-repair/machines
            ln -s directory /run/link; echo text > /run/file
            rm -rf /run/mount # mount's own
            exec "$@"
        """
        code = """
import os, subprocess
from pathlib import Path
before = os.open("/run", os.O_PATH)
from cni_repair.demo.lab import Lab
from tests.patience import HANG_SECONDS
with Lab(name="it") as lab:
    print(sorted(os.listdir("/run")), sorted(os.listdir("/run/netns")))
    print(os.readlink("/run/link"), Path("/run/file").read_text().strip())
    print(os.listdir("/run/link/mounted"))
os.fchdir(before)
print(sorted(os.listdir(".")), os.listdir("netns"), os.listdir("cni-repair"))
"""
        with child(code, "unshare", "--mount", "bash", "-euc", script, "-") as process:
            said, _ = process.communicate(timeout=HANG_SECONDS)
        assert said.splitlines() == [
            "['cni-repair-it', 'directory', 'file', 'link', 'netns'] ['it-node', 'it-tor']",
            "directory text",
            "['deep']",
            "['cni-repair', 'directory', 'file', 'link', 'netns'] ['machines'] ['machines']",
        ]

    def test_nothing_of_a_lab_reaches_the_machines_journal(self) -> None:
        """What is done to its pods is no event of the machine's, nor is what the demo does."""
        script = 'mount -t tmpfs none /run; mkdir -p /run/systemd/journal; exec "$@"'
        code = f"""
import socket
from cni_repair.demo.lab import Lab, product
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind({SOCKET!r})
journal.setblocking(False)
from cni_repair.base import log
log.event("added", "of the machine")
print(b"of the machine" in journal.recv(4096))
with Lab(pods=1) as lab:
    log.event("added", "of a test")
    print(lab.cni("ADD", lab.pods[0], lab.netconf()).returncode)
try:
    print(journal.recv(4096))
except BlockingIOError:
    print("nothing")
"""
        with child(code, "unshare", "--mount", "bash", "-euc", script, "-") as process:
            said, _ = process.communicate(timeout=HANG_SECONDS)
        assert said.splitlines() == ["True", "0", "nothing"]

    @pytest.mark.parametrize("kind", ["Lab", "PrivateLab"])
    def test_sigkill_leaves_nothing(self, kind: str, nothing_left: Callable[[], None]) -> None:
        code = f"""
import time
from cni_repair.demo.lab import {kind}
with {kind}(pods=2) as lab:
    print("up", flush=True)
    time.sleep(600)
"""
        with child(code) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.kill()
        assert process.returncode == -signal.SIGKILL
        nothing_left()


class TestPrivateNode:
    """Its files are where they are by default, and the machine's are not to be seen."""

    @pytest.fixture
    def lab(self) -> Iterator[Lab]:
        with PrivateLab(1, detect_duplicates=False) as lab:
            yield lab

    def test_names_and_places(self, lab: Lab) -> None:
        assert [netns.name for netns in (lab.node, lab.tor, *lab.pods)] == ["node", "tor", "pod1"]
        assert lab.cni("ADD", lab.pods[0], lab.netconf()).returncode == 0
        found = lab.run(lab.node, ["find", "/run", "/var/lib", "-type", "f"]).stdout.split()
        assert "/var/lib/cni-repair/checkpoints/pod1@eth0.json" in found
        assert "/var/lib/cni/networks/pods/10.9.0.2" in found
        assert sorted(os.listdir(lab.ground.outside("/run/netns"))) == ["pod1", "tor"]
        assert not os.path.exists("/var/lib/cni-repair/checkpoints/pod1@eth0.json")
        assert not os.path.exists("/run/netns/pod1")

    def test_command_line_needs_no_options(self, lab: Lab) -> None:
        lab.cni("ADD", lab.pods[0], lab.netconf())
        lab.uplink_lost()
        assert "1 lost" in lab.cli("status").stdout
        lab.uplink_back()
        assert lab.cli("repair", "--all").returncode == 0
        assert "1 healthy" in lab.cli("status").stdout

    def test_two_at_a_time(self, lab: Lab) -> None:
        with PrivateLab(1) as other:
            other.uplink_lost()
            assert names(other, other.node) == ["lo"]
            assert names(lab, lab.node) == ["lo", "eth0"]

    def test_files_are_typed_as_the_node_knows_them(self, lab: Lab) -> None:
        typed: list[str] = []
        lab.echo = typed.append
        conf = lab.directory / "net.conf"
        conf.write_text("{}")
        lab.cni("VERSION", None, conf)
        assert typed == [
            f"node# CNI_COMMAND=VERSION CNI_PATH={lab.cni_path} cni-repair </run/lab/net.conf"
        ]

    @pytest.mark.parametrize("covered", ["/run", "/var/lib"])
    def test_cni_repair_itself_may_be_below_what_is_covered(self, covered: str) -> None:
        """As with `install.sh --demo` and a TMPDIR there."""
        with tempfile.TemporaryDirectory(dir=covered, prefix="with a blank ") as place:
            launcher = Path(place, "bin", "cni-repair")
            launcher.parent.mkdir()
            launcher.write_text(f'#!/bin/sh\nexec {shlex.join(product())} "$@"\n')
            launcher.chmod(0o755)
            with PrivateLab(command=[str(launcher)]) as lab:
                assert lab.cli("--version").stdout.startswith("cni-repair ")
                ours = {"lab", "mount", "netns", Path(place).name}  # `mount` has a place of its own
                assert set(os.listdir(lab.ground.outside("/run"))) <= ours
                assert set(os.listdir(lab.ground.outside("/var/lib"))) <= ours

    def test_connections(self, lab: Lab) -> None:
        lab.cni("ADD", lab.pods[0], lab.netconf())
        lab.connect(lab.pods[0]).exchange("one")


class TestUplinks:
    @pytest.mark.parametrize("kind", [Lab, PrivateLab])
    def test_a_second_one(self, kind: type[Lab]) -> None:
        with kind() as lab:
            lab.uplink_back("eth1", "10.9.1.1", mtu=9000)
            assert names(lab, lab.node) == ["lo", "eth0", "eth1"]
            (link,) = lab.ip_json(lab.node, "link", "show", "dev", "eth1")
            assert (link["address"], link["mtu"]) == ("02:00:00:00:0a:02", 9000)
            assert "10.9.1.1/24" in lab.ip(lab.tor, "addr", "show", "dev", "tor1")
            lab.uplink_lost("eth1")
            assert names(lab, lab.node) == ["lo", "eth0"]


class TestVlan:
    def test_where_the_kernel_has_vlans_they_are_used_else_it_says_so(self) -> None:
        if not kernel_has_vlans():
            with (
                pytest.raises(LabError, match=r"name tor0\.3 type vlan id 3.*: Error: "),
                Lab(vlan=3),
            ):
                pass
            return
        with Lab(1, vlan=3, detect_duplicates=False) as lab:
            assert lab.netconf()["vlanId"] == 3
            assert lab.cni("ADD", lab.pods[0], lab.netconf()).returncode == 0
            assert "eth0.3" in names(lab, lab.node)
            lab.uplink_lost()
            lab.uplink_back()
            assert names(lab, lab.node) == ["lo", "eth0"]
            assert lab.cni("REPAIR", None, lab.netconf()).returncode == 0
            assert lab.run(lab.pods[0], ["ping", "-c", "1", lab.gateways[0]]).returncode == 0

    def test_trying_leaves_nothing(self, nothing_left: Callable[[], None]) -> None:
        before = links()
        kernel_has_vlans()
        assert links() == before
        nothing_left()


class TestNode:
    def test_pods_reach_the_gateway_through_the_bare_plugin(self, lab: Lab) -> None:
        pod = lab.add_pod()
        done = lab.cni("ADD", pod, lab.netconf(type="macvlan"), command=[f"{lab.cni_path}/macvlan"])
        assert done.returncode == 0, done.stdout
        assert done.document["ips"][0]["address"] == "10.9.0.2/24"
        for gateway in lab.gateways:
            assert lab.run(pod, ["ping", "-c", "1", "-W", "30", gateway]).returncode == 0

    def test_the_uplink_takes_the_pods_interfaces_with_it(self, lab: Lab) -> None:
        pod = lab.add_pod()
        lab.ip(lab.node, *f"link add link eth0 name mv0 netns {pod.name} type macvlan".split())
        assert names(lab, pod) == ["lo", "mv0"]
        lab.uplink_lost()
        assert names(lab, lab.node) == names(lab, pod) == ["lo"]

    def test_the_uplink_comes_back_as_it_was_but_for_its_index(self, lab: Lab) -> None:
        def uplink() -> tuple[str, str, bool]:
            link = lab.ip_json(lab.node, "link", "show", "dev", "eth0")[0]
            return link["address"], link["operstate"], "LOWER_UP" in link["flags"]

        before = uplink()
        lab.uplink_lost()
        lab.uplink_back()
        assert uplink() == before
        assert before[1:] == ("UP", True)

    def test_without_ipv6(self) -> None:
        with Lab(pods=1, ipv6=False) as lab:
            assert lab.gateways == ["10.9.0.1"]
            assert "fd00" not in lab.ip(lab.tor, "addr")
            done = lab.cni("ADD", lab.pods[0], lab.netconf())
            assert [ip["address"] for ip in done.document["ips"]] == ["10.9.0.2/24"]

    def test_two_at_a_time(self) -> None:
        with Lab(pods=1) as one, Lab(pods=1) as other:
            assert one.pods != other.pods
            assert names(one, one.node) == names(other, other.node)

    def test_netconf_can_be_overridden(self, lab: Lab) -> None:
        netconf = lab.netconf(master=["bond4", "eth0"], vlanId=3, name=None)
        assert netconf["master"] == ["bond4", "eth0"]
        assert netconf["vlanId"] == 3
        assert "name" not in netconf

    def test_an_interface_equals_itself_over_a_new_master(self, lab: Lab) -> None:
        pod = lab.add_pod()
        lab.cni("ADD", pod, lab.netconf())
        before = lab.interface(pod)
        lab.uplink_lost()
        assert lab.interface(pod)["link"] == {}
        lab.uplink_back()
        assert lab.cni("REPAIR", pod, lab.netconf()).returncode == 0
        assert lab.interface(pod) == before
        lab.ip(pod, "link", "set", "eth0", "mtu", "1400")
        assert lab.interface(pod) != before


class TestCommands:
    def test_variables_of_a_call(self, lab: Lab) -> None:
        pod = lab.add_pod()
        typed: list[str] = []
        lab.echo = typed.append
        lab.cni("VERSION", None, {"cniVersion": "1.0.0"})
        lab.cni("DEL", pod, lab.netconf(), env={"CNI_ARGS": "A=1;B=2"})
        other = {"CNI_CONTAINERID": "other", "CNI_IFNAME": "net1"}
        lab.cni("DEL", None, lab.netconf(), env=other)
        lab.cli("status", "--checkpoint-dir", "/nowhere")
        start, cni_path = f"{lab.node.name}#", f"CNI_PATH={lab.cni_path}"
        assert typed == [
            f"{start} CNI_COMMAND=VERSION {cni_path} cni-repair",
            f"{start} CNI_COMMAND=DEL CNI_CONTAINERID={pod.name} CNI_IFNAME=eth0"
            f" CNI_NETNS={pod.path} {cni_path} CNI_ARGS='A=1;B=2' cni-repair",
            f"{start} CNI_COMMAND=DEL {cni_path} CNI_CONTAINERID=other CNI_IFNAME=net1 cni-repair",
            f"{start} cni-repair status --checkpoint-dir /nowhere",
        ]

    def test_the_environment_is_no_more_than_was_given(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET", "1")
        done = lab.run(lab.node, ["env"], env={"GIVEN": "1"})
        assert {line.partition("=")[0] for line in done.stdout.split()} == {
            "PATH",
            "LC_ALL",
            "GIVEN",
        }

    def test_a_command_sees_its_own_sys(self, lab: Lab) -> None:
        done = lab.run(lab.node, ["ls", "/sys/class/net"])
        assert done.stdout.split() == ["eth0", "lo"]

    def test_one_that_hangs_is_ended_and_named(
        self, lab: Lab, nothing_left: Callable[[], None]
    ) -> None:
        with pytest.raises(LabError, match=r"sleep 60: no end after 0\.2 s"):
            lab.run(lab.node, ["sleep", "60"], seconds=0.2)
        nothing_left()

    def test_a_failing_ip_command_is_named(self, lab: Lab) -> None:
        with pytest.raises(LabError, match=r"link show dev eth7: .*does not exist"):
            lab.ip(lab.node, "link", "show", "dev", "eth7")

    def test_output_that_is_no_document(self, lab: Lab) -> None:
        with pytest.raises(LabError, match="not one JSON document: 'two words"):
            _ = lab.run(lab.node, ["echo", "two words"]).document


class TestConnection:
    def test_it_carries_lines_and_is_bound(self, lab: Lab) -> None:
        pod = lab.add_pod()
        lab.cni("ADD", pod, lab.netconf())
        connection = lab.connect(pod)
        connection.exchange("one")
        connection.exchange("two")
        assert connection.ends[0].startswith("10.9.0.2:")

    def test_without_a_network_there_is_none(self, lab: Lab) -> None:
        with pytest.raises((LabError, OSError)):
            lab.connect(lab.add_pod())

    @pytest.mark.parametrize(
        ("index", "seconds", "outcome"),
        [
            (100, HANG_SECONDS, contextlib.nullcontext()),
            (101, 0.5, pytest.raises(LabError, match="connection is dead: receive: timed out")),
        ],
    )
    def test_it_carries_on_if_the_interface_comes_back_with_the_same_index(
        self,
        lab: Lab,
        index: int,
        seconds: float,
        outcome: contextlib.AbstractContextManager[object],
    ) -> None:
        pod = lab.add_pod()

        def attach(index: int) -> None:
            link = f"link eth0 name mv0 index {index} address 02:00:00:00:00:05"
            lab.ip(lab.node, *f"link add {link} netns {pod.name} type macvlan".split())
            lab.ip(pod, "addr", "add", "10.9.0.2/24", "dev", "mv0")
            lab.ip(pod, "link", "set", "mv0", "up")

        attach(100)
        with Connection(lab.inside(lab.tor), lab.inside(pod), "mv0") as connection:
            connection.exchange("before")
            connection.wait_for(seconds)
            lab.uplink_lost()
            lab.uplink_back()
            attach(index)
            with outcome:
                connection.exchange("after")

    def test_sockets_stay_where_they_were_made(self, lab: Lab) -> None:
        with inside(lab.tor.path):
            ours = own_netns()
            made = socket.socket()
        with made:
            assert own_netns() != ours
            made.bind(("10.9.0.1", 0))


class TestCleanUp:
    def test_its_failure_is_raised_and_does_not_stop_the_rest(self) -> None:
        home = own_netns()
        lab = Lab(pods=1)
        with pytest.raises(FileNotFoundError), lab:
            lab.directory.rmdir()
        assert own_netns() == home
        assert not [name for name in os.listdir("/run/netns") if name.startswith(lab.pods[0].name)]

    def test_a_lab_that_fails_to_come_up_is_taken_down(
        self, monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[], None]
    ) -> None:
        home = own_netns()
        monkeypatch.setattr(labs, "GATEWAY", "no address")
        with pytest.raises(LabError, match="no address"), Lab(pods=1):
            pass
        assert own_netns() == home
        nothing_left()


class TestWhatIsNeeded:
    def test_missing_programs_and_their_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "PATH", "/nowhere")
        monkeypatch.setattr(machine, "_PLUGIN_DIRECTORIES", ("/nowhere",))
        with pytest.raises(LabError) as raised:
            machine.check_machine()
        assert str(raised.value) == (
            "ip, ping, macvlan and host-local (in /nowhere) missing:"
            " apt-get install iproute2 iputils-ping containernetworking-plugins"
        )

    def test_the_launcher_that_started_us_is_the_product(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        launcher = tmp_path / "cni-repair"
        launcher.touch(mode=0o755)
        monkeypatch.setattr(sys, "argv", [str(launcher), "demo"])
        assert product() == [str(launcher)]

    def test_else_it_is_this_package(self, lab: Lab, tmp_path: Path) -> None:
        assert lab.command[0] == sys.executable
        done = lab.cni("VERSION", None, {"cniVersion": "1.0.0"}, env={"PYTHONPATH": str(tmp_path)})
        assert "1.0.0" in done.document["supportedVersions"]


def test_polling_ends() -> None:
    answers = iter([[], [], ["there"]])
    assert poll_until(lambda: next(answers), 5, "an answer") == ["there"]
    with pytest.raises(LabError, match="waited 0 s in vain for nothing"):
        poll_until(lambda: False, 0, "nothing")
