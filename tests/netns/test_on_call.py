"""An engineer on call, at a serial console: each situation's words lead out of it.

What is printed fits 80 columns (but for names and reasons), and names an action; it is carried out
as it stands there, and the node is better off. No command sends to another that sends back.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.netns.rig import Rig, eventually
from tests.netns.test_uncovered import bare, command

pytestmark = pytest.mark.slow  # many, though each is short

NEXT = re.compile(r"^  next: (?:then )?(.*)$", re.MULTILINE)


def advice_in(rig: Rig, out: str) -> str:
    """The lines below the totals, as they are where no option has to be repeated."""
    text = out.replace(f" --checkpoint-dir {rig.checkpoints}", "").replace(str(rig.base), "/x")
    return text[re.search(r"^(?:\d+ attachments?: |\d+ without)", text, re.MULTILINE).start() :]  # type: ignore[union-attr]


def attach(rig: Rig, count: int = 2) -> None:
    for number in range(1, count + 1):
        rig.attach(f"pod{number}")


# --- situations, and who puts them right ----------------------------------------------------------

Step = Callable[[Rig], object]


def run(*words: str) -> Step:
    return lambda rig: command(rig, *words)


def lost(rig: Rig) -> None:
    attach(rig)
    rig.reload()


def master_missing(rig: Rig) -> None:
    attach(rig)
    rig.uplink_down()


def master_down(rig: Rig) -> None:
    attach(rig)
    rig.ip("link set eth0 down")


def renamed_and_down(rig: Rig) -> None:
    """As `ip link` shows it, so it is told: not by the altname that the records know."""
    master_down(rig)
    rig.ip("link set eth0 name ens9")
    rig.ip("link property add dev ens9 altname eth0")


def no_carrier(rig: Rig) -> None:
    attach(rig)
    rig.ip("link set tor0 down", rig.lab.tor.name)
    eventually(lambda: rig.links()["eth0"]["operstate"] != "UP", "eth0 to lose its carrier")


def carrier_back(rig: Rig) -> None:
    rig.ip("link set tor0 up", rig.lab.tor.name)
    eventually(lambda: rig.links()["eth0"]["operstate"] == "UP", "eth0 to have carrier")


def degraded(rig: Rig) -> None:
    attach(rig)
    rig.ip("route del default", "pod1")


def down_in_the_pod(rig: Rig) -> None:
    attach(rig)
    rig.ip("link set eth0 down", "pod1")


def stale(rig: Rig) -> None:
    attach(rig)
    rig.ip("netns del pod1")


def unmanaged(rig: Rig) -> None:
    attach(rig)
    bare(rig, "bare")


def unmanaged_and_lost(rig: Rig) -> None:
    attach(rig)
    rig.ip("link del eth0", bare(rig, "bare"))


def put_in_its_place(rig: Rig, *commands: str) -> None:
    """Have the pod replace its interface, by commands of its own."""
    attach(rig)
    for words in ("del eth0", *commands):
        rig.ip(f"link {words}", "pod1")


def foreign(rig: Rig) -> None:
    put_in_its_place(rig, "add eth0 type bridge")


def altname_of_another(rig: Rig) -> None:
    put_in_its_place(rig, "add br0 type bridge", "property add dev br0 altname eth0")


def own_macvlan(rig: Rig) -> None:
    own = "add link br0 name eth0 type macvlan mode bridge"
    put_in_its_place(rig, "add br0 type bridge", own)


def over_another_master(rig: Rig) -> None:
    """As another plugin may make it."""
    attach(rig)
    rig.uplink_up("eth1", "10.9.1.1")
    rig.ip("link del eth0", "pod1")
    rig.ip("link add link eth1 name eth0 netns pod1 type macvlan mode bridge")


def by_its_reason(rig: Rig) -> None:
    """The command at the end of the reason, into a shell as it stands."""
    (reason,) = re.findall(r"^    (eth0 is .*)$", command(rig, "status").out, re.MULTILINE)
    rig.run("sh", "-euc", reason.rpartition(": ")[2])


def unreadable(rig: Rig) -> None:
    attach(rig, 1)
    was = bare(rig, "pod2")
    command(rig, "adopt", "--write")
    rig.checkpoint(was).write_text("{")


def record_moved_away(rig: Rig) -> None:
    pasted(rig, r"mv \S+ (?=/root/)", f" {rig.base}")


def others_may_write(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.checkpoint(was.pod).chmod(0o666)


def mode_as_it_was(rig: Rig) -> None:
    pasted(rig, "chmod 0600 .*")


def address_freed(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    (rig.base / "ipam/pods" / was.address).unlink()


def forced(rig: Rig) -> None:
    (words,) = re.findall(r"cni-repair (repair --force .*)", command(rig, "status").out)
    command(rig, *shlex.split(words))


def pasted(rig: Rig, pattern: str, more: str = "") -> None:
    """A command of the advice, into a shell as it stands."""
    (found,) = re.findall(pattern, command(rig, "status").out, re.MULTILINE)
    rig.run("sh", "-euc", found + more)


def another_link(rig: Rig) -> None:
    attach(rig)
    rig.uplink_down()
    rig.ip("link add eth0 type bridge")


def renamed_as_it_says(rig: Rig) -> None:
    """That of its name, which is anything."""
    pasted(rig, "^        rename it: (.* name )NAME$", "mine")


def another_links_altname(rig: Rig) -> None:
    attach(rig)
    rig.uplink_down()
    rig.ip("link add br0 type bridge")
    rig.ip("link property add dev br0 altname eth0")


def name_taken_as_it_says(rig: Rig) -> None:
    pasted(rig, "^        take that name from it: (.*)$")


def renamed_master(rig: Rig) -> None:
    master_down(rig)
    rig.ip("link set eth0 name ens9")


def renamed_and_lost(rig: Rig) -> None:
    renamed_master(rig)
    for pod in ("pod1", "pod2"):
        rig.ip("link del eth0", pod)


ANOTHER_NAME = "the node's eth0 has another name now"
ALTNAME = "ip link property add dev ens9 altname eth0"


def named_back(rig: Rig) -> None:
    """By the altname; then status says what is still amiss: it is down."""
    rig.ip(ALTNAME.removeprefix("ip "))
    assert "next: ip link set dev ens9 up\n" in command(rig, "status").out
    rig.ip("link set dev ens9 up")


SITUATIONS: dict[str, tuple[Step, str, list[str], list[Step]]] = {
    # what happened; the command; what its advice says; what is done then, until status is 0
    "lost": (lost, "status", ["cni-repair repair --all"], [run("repair", "--all")]),
    "master-missing": (
        master_missing, "status",
        ["the node's eth0 is missing; 2 pod interfaces on it", "then cni-repair repair --all"],
        [Rig.uplink_up, run("repair", "--all")],
    ),
    "master-missing-repair": (
        master_missing, "repair",
        ["the node's eth0 is missing; 2 pod interfaces on it", "then cni-repair repair --all"],
        [Rig.uplink_up, run("repair", "--all")],
    ),
    "master-missing-verify": (
        master_missing, "verify",
        ["the node's eth0 is missing; 2 pod interfaces on it", "then cni-repair repair --all"],
        [Rig.uplink_up, run("repair", "--all")],
    ),
    "master-down": (
        master_down, "status",
        ["the node's eth0 is down", "next: ip link set dev eth0 up", "then cni-repair repair --a"],
        [lambda rig: rig.ip("link set dev eth0 up"), run("repair", "--all")],
    ),
    "master-by-its-altname-down": (
        renamed_and_down, "status",
        ["the node's ens9 is down", "next: ip link set dev ens9 up"],
        [lambda rig: rig.ip("link set dev ens9 up"), run("repair", "--all")],
    ),
    "master-down-verify": (
        master_down, "verify",
        ["the node's eth0 is down", "next: ip link set dev eth0 up", "then cni-repair verify"],
        [lambda rig: rig.ip("link set dev eth0 up"), run("repair", "--all")],
    ),
    "no-carrier": (
        no_carrier, "status",
        ["the node's eth0 has no carrier", "its cable and its switch port", "cni-repair verify"],
        [carrier_back],
    ),
    "no-carrier-verify": (
        no_carrier, "verify",
        ["the node's eth0 has no carrier", "its cable and its switch port", "cni-repair verify"],
        [carrier_back],
    ),
    "another-link": (
        another_link, "repair",
        [
            "the node's eth0 is another link now", "look at that link: ip -d link show dev eth0",
            "then cni-repair repair --all",
        ],
        [renamed_as_it_says, Rig.uplink_up, run("repair", "--all")],
    ),
    "altname-of-another-link": (
        another_links_altname, "repair", ["the node's eth0 is another link now"],
        [name_taken_as_it_says, Rig.uplink_up, run("repair", "--all")],
    ),
    "renamed-and-down": (  # not to be made again
        renamed_master, "status", [f"{ANOTHER_NAME}; 2 pod", f"next: {ALTNAME}\n"],
        [named_back, run("repair", "--all")],
    ),
    "renamed-and-lost": (
        renamed_and_lost, "repair", [f"{ANOTHER_NAME}; 2 pod", f"next: {ALTNAME}\n"],
        [named_back, run("repair", "--all")],
    ),
    "degraded": (degraded, "status", ["next: cni-repair repair --all"], [run("repair", "--all")]),
    "down-in-the-pod-verify": (  # nothing of the switch's
        down_in_the_pod, "verify",
        ["2 attachments: 1 healthy, 1 degraded\ndegraded: ", "next: cni-repair repair --all"],
        [run("repair", "--all")],
    ),
    "stale": (stale, "status", ["cni-repair forget --stale"], [run("forget", "--stale")]),
    "unmanaged": (unmanaged, "status", ["cni-repair adopt --write"], [run("adopt", "--write")]),
    "unmanaged-lost": (
        unmanaged_and_lost, "status", ["cni-repair adopt --write"],
        [run("adopt", "--write"), run("repair", "--all")],
    ),
    **{
        f"foreign-{happen.__name__}": (
            happen, "status", ["by the command at the end of the reason"],
            [by_its_reason, run("repair", "--all")],
        )
        for happen in (foreign, altname_of_another, own_macvlan, over_another_master)
    },
    "written-by-others": (
        others_may_write, "status", ["        chmod 0600 "], [mode_as_it_was],
    ),
    "released": (
        address_freed, "status", ["cni-repair repair --force shop/pod1\n"], [forced],
    ),
    "unreadable": (
        unreadable, "status", ["move it away:\n        mv ", "cni-repair adopt --write"],
        [record_moved_away, run("adopt", "--write")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_advice_leads_out(rig: Rig, name: str) -> None:
    happen, asked, said, steps = SITUATIONS[name]
    happen(rig)
    words = {"repair": ["repair", "--all"], "verify": ["verify", "--timeout", "1"]}
    done = command(rig, *words.get(asked, [asked]))
    assert done.status == (0 if name == "stale" else 1)
    advice = advice_in(rig, done.out)
    for words_said in said:
        assert words_said in advice
    assert f"next: cni-repair {asked}" not in advice or asked == "repair"
    assert max(map(len, advice.splitlines())) <= 80
    for step in steps:
        step(rig)
    after = command(rig, "status")
    assert after.status == 0, after.out
    assert NEXT.findall(after.out) == []


def test_pods_of_one_cause_are_told_together(rig: Rig) -> None:
    """Whatever lies between them: a pod that only lacks its route, and stands on another master."""
    attach(rig, 5)
    rig.uplink_up("eth1", "10.9.1.1")
    rig.attach("other", rig.conf(master="eth1"))
    rig.ip("link del eth0", "other")
    rig.uplink_down()
    out = command(rig, "status").out
    assert out.count("the pod's eth0 is gone; the node's master eth0 does not exist") == 1
    assert "    all 5: " in out
    assert "the node's eth0 is missing; 5 pod interfaces on it" in out


def test_a_repair_that_needs_the_master_says_so(rig: Rig) -> None:
    """Not that a route was not restored since it is missing."""
    attach(rig, 1)
    rig.ip("link set eth0 down")
    rig.ip("link set eth0 name ens9")
    rig.ip("link set ens9 up")
    eventually(lambda: rig.links("pod1")["eth0"]["operstate"] == "UP", "the pod to have carrier")
    rig.ip("route del default", "pod1")
    repaired = command(rig, "repair", "--all").out
    assert " eth0 (nothing done)\n    route 0.0.0.0/0 via 10.9.0.1 is missing; the" in repaired
    assert f"it is called ens9 now: {ALTNAME}: then repair again\n" in repaired


# When a repair comes to its second pod, the master goes.
MASTER_GOES = """
import subprocess
from cni_repair.repair.attachment import AttachmentRepair
was = AttachmentRepair.run
def run(self, recorded):
    if recorded.pod.name == "pod2":
        subprocess.run(["ip", "-n", "TOR", "link", "del", "tor0"], check=True)
    return was(self, recorded)
AttachmentRepair.run = run
"""


def test_a_driver_that_is_reloaded_in_the_middle_of_a_repair(rig: Rig) -> None:
    """The step that was refused stands there as a command, and why; the next one goes on."""
    attach(rig)
    rig.reload()
    patch = MASTER_GOES.replace("TOR", rig.lab.tor.name)
    done = command(rig, "repair", "--all", "--wait", "0", patch=patch)
    assert done.status == 1
    refused = (
        r"ip link add link eth0 .* netns /run/netns/pod2 type macvlan mode bridge: No such device"
    )
    assert re.search(rf"{refused} \(the node's eth0 went away meanwhile\)$", done.out, re.MULTILINE)
    assert "the node's eth0 is missing; " in done.out
    rig.uplink_up()
    assert command(rig, "repair", "--all").status == 0


def test_pods_that_are_gone_are_told_together(rig: Rig) -> None:
    """Though each had a namespace of its own."""
    attach(rig, 3)
    for pod in ("pod1", "pod3"):
        rig.ip(f"netns del {pod}")
    for words in (["status"], ["verify", "--timeout", "1"]):
        out = command(rig, *words).out
        assert out.count("    all 2: its network namespace is gone: No such file or directory") == 1


def test_link_that_is_down_is_told_once(rig: Rig) -> None:
    """Of a pod that it cuts off, and of one that has lost its interface over it."""
    rig.attach("cut-off")
    lost = rig.attach("lost")
    rig.ip("link del eth0", lost.pod)
    rig.ip("link set eth0 down")
    out = command(rig, "verify", "--timeout", "1").out
    (line,) = (line for line in out.splitlines() if line.endswith(" on it"))
    assert line == "the node's eth0 is down; 2 pod interfaces on it"
    assert "then cni-repair repair --all" in out


def test_silent_gateway_behind_links_that_are_up(rig: Rig) -> None:
    attach(rig)
    rig.ip("link set tor0 arp off", rig.lab.tor.name)
    done = command(rig, "verify", "--timeout", "1")
    assert done.status == 1
    advice = advice_in(rig, done.out)
    assert "unreachable: the node's links are up" in advice
    assert "see to the switch port" in advice
    assert max(map(len, advice.splitlines())) <= 80


def test_nothing_is_waited_for_where_nobody_wants_to(rig: Rig) -> None:
    master_missing(rig)
    patch = "import sys; sys.stderr.isatty = lambda: True"
    words = ["repair", "--all", "--checkpoint-dir", str(rig.checkpoints), "--wait"]
    assert "waiting up to 0.1 s: " in rig.cli(*words, "0.1", patch=patch).err
    assert rig.cli(*words, "0", patch=patch).err == ""


def test_mixed_causes_each_have_their_line(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}").pod for number in (1, 2, 3, 4)]
    rig.drop_pod(pods[0])
    rig.checkpoint(pods[1]).write_text("{")
    rig.ip("link del eth0", "pod3")
    rig.ip("link add eth0 type bridge", "pod3")
    rig.ip("link del eth0", "pod4")
    bare(rig, "bare")
    done = command(rig, "status")
    assert done.status == 1
    advice = advice_in(rig, done.out)
    for state in ("lost", "stale", "foreign", "unreadable", "unmanaged"):
        assert re.search(rf"^{state}: ", advice, re.MULTILINE), state
    assert len(NEXT.findall(advice)) == 5
    assert max(map(len, advice.splitlines())) <= 80


def test_no_record_at_all(rig: Rig, tmp_path: Path) -> None:
    rig.checkpoints.mkdir(mode=0o700)
    done = command(rig, "status")
    assert done.status == 0
    assert "cni-repair adopt" in done.out


def test_inside_a_pod_is_refused(rig: Rig) -> None:
    """As in a container without hostNetwork: all masters would be missing there."""
    was = rig.attach("pod1")
    words = ["nsenter", f"--net={was.pod.path}", rig.launcher(), "status"]
    done = rig.run(*words, "--checkpoint-dir", str(rig.checkpoints), check=False)
    assert (done.status, done.out) == (3, "")
    assert "this is the network namespace of pod shop/pod1, not the node's" in done.err


@pytest.mark.parametrize(
    "words", [["status"], ["plan"], ["verify"], ["repair", "--all"]], ids=" ".join
)
def test_in_another_network_namespace_is_refused(rig: Rig, words: list[str]) -> None:
    """As in a container without hostNetwork: each interface would be `foreign`, and the advice to
    remove it would end what is well."""
    rig.attach("pod1")
    words = ["unshare", "--net", rig.launcher(), *words]
    done = rig.run(*words, "--checkpoint-dir", str(rig.checkpoints), check=False)
    assert (done.status, done.out) == (3, "")
    assert "this is not the node's network namespace" in done.err


def test_one_pod_cannot_have_the_node_refused(rig: Rig) -> None:
    """A pod may put its interface over another namespace's link: that is its own affair."""
    rig.attach("well")
    was = rig.attach("odd")
    link, index = was.state["addr"][0], was.state["addr"][0]["ifindex"]
    rig.pod("far")
    rig.ip("link add up0 type bridge", "far")
    rig.ip("link del eth0", was.pod)
    rig.ip(
        f"link add link up0 name eth0 index {index} netns odd address {link['address']}"
        " type macvlan mode bridge",
        "far",
    )
    found = command(rig, "repair", "--all", "-o", "json").report(1)
    assert found["summary"]["healthy"] == 1
    rig.uplink_down()
    rig.uplink_up()
    found = command(rig, "repair", "--all", "-o", "json").report(1)
    assert found["summary"]["healthy"] == 1


def test_pods_whose_namespaces_are_hidden_are_not_stale(rig: Rig) -> None:
    """As in a container with hostNetwork and hostPID, without the node's /run/netns."""
    rig.attach("pod1")
    command = f"{rig.launcher()} repair --all --checkpoint-dir {rig.checkpoints}"
    hidden = f"unshare --mount sh -c 'mount -t tmpfs tmpfs /run/netns && exec {command}'"
    words = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", f"{hidden}; exit $?"]
    done = rig.run(*words, check=False)
    assert (done.status, done.out) == (3, "")
    assert "pod shop/pod1 lives, but its namespace /run/netns/pod1 cannot be seen" in done.err


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def on_read_only(rig: Rig, directory: Path, *words: str) -> str:
    """What a command says while a directory is read-only, as after an error of its disk."""
    inside = ("unshare", "--mount", "sh", "-euc", READ_ONLY, str(directory), rig.launcher())
    done = rig.run(*inside, *words, check=False)
    assert done.status == 1
    return done.out + done.err


def test_a_read_only_directory_is_told_once_with_its_remedy(rig: Rig) -> None:
    """Not for each of 200 pods, with the name of its lock or record."""
    attach(rig)
    run_dir = rig.base / "run"
    where = ("--checkpoint-dir", str(rig.checkpoints), "--run-dir", str(run_dir))
    rig.ip("route del default", "pod1")
    rig.ip("route del default", "pod2")
    said = on_read_only(rig, run_dir, "repair", "--all", *where)
    remedy = f"Read-only file system; have it writable again (findmnt -T {run_dir}; dmesg)"
    assert said.count(f"cannot make a lock in {run_dir}: {remedy}") == 1
    command(rig, "repair", "--all")
    for pod in ("pod1", "pod2"):
        rig.ip("addr add 10.9.0.77/24 dev eth0", pod)
    said = on_read_only(rig, rig.checkpoints, "snapshot", *where)
    assert said.count("    all 2: its older record stays: cannot use the checkpoint") == 1
    (rig.base / "watch.yaml").write_text(f"version: 1\nrunDir: {run_dir}\n")
    words = ("watch", "--config", str(rig.base / "watch.yaml"), "--pause", "10m", "--reason", "x")
    rig.run("touch", str(run_dir / "watch.pause.lock"))  # as of a pause before
    (run_dir / "watch.pause.lock").chmod(0o600)
    said = on_read_only(rig, run_dir, *words)
    assert f"(findmnt -T {run_dir}; dmesg)" in said
