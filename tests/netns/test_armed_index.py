"""The armed index: written by `snapshot`, used by REPAIR and `repair`, and left alone wherever it
may not be of today."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cni_repair
from tests.netns.armedrig import TAKEN
from tests.netns.rig import Attachment, Json, Outcome, Rig, entry_of, options, states
from tests.netns.test_names import NEW, back_as
from tests.netns.test_temporary import OLD_KERNEL

pytestmark = pytest.mark.slow  # many, though each is short

Verb = Callable[[Rig, str], Outcome]


def told(rig: Rig) -> str:
    """Python code, after which a repair tells how many were fired, and what was not done."""
    file = rig.base / "fired"
    file.unlink(missing_ok=True)
    return f"""
from cni_repair.repair.armed import ready
close = ready.Armed.close
def told(self):
    import json
    fired = len(self._by_file) - self.count
    with open({str(file)!r}, "w") as file:
        json.dump([len(self._by_file), fired, self.missed], file)
    close(self)
ready.Armed.close = told
"""


def fired(rig: Rig) -> tuple[int, int, Json]:
    """How many were armed, how many fired, and what was not done, by the reason."""
    armed, count, missed = json.loads((rig.base / "fired").read_text(encoding="utf-8"))
    return armed, count, missed


def verb(rig: Rig, patch: str = "") -> Outcome:
    return rig.plugin("REPAIR", patch=patch)


def command(rig: Rig, patch: str = "") -> Outcome:
    return rig.cli("repair", "--all", "-o", "json", *options(rig), patch=patch)


def snapshot(rig: Rig, *more: str) -> Path | None:
    """Take one; the index, if there is one then."""
    rig.cli("snapshot", *more, *options(rig))
    found = [*(rig.base / "run").glob("armed-*")]
    assert len(found) <= 1
    return found[0] if found else None


def two_pods(rig: Rig) -> list[Attachment]:
    return [rig.attach(f"pod{number}") for number in (1, 2)]


def assert_as_they_were(rig: Rig, *pods: Attachment) -> None:
    for was in pods:
        assert rig.state(was.pod) == was.state


@pytest.mark.parametrize("face", [verb, command])
def test_repair_by_the_index(rig: Rig, face: Verb) -> None:
    pods = two_pods(rig)
    rig.reload()
    unarmed = face(rig, "").report(0)
    assert snapshot(rig)
    rig.reload()
    document = face(rig, told(rig)).report(0)
    assert fired(rig) == (2, 2, {})
    assert document == unarmed
    assert_as_they_were(rig, *pods)


def test_who_writes_it_and_for_whom(rig: Rig) -> None:
    two_pods(rig)
    assert snapshot(rig, "--check") is None
    file = snapshot(rig)
    assert file is not None
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, os.geteuid())


def test_nothing_is_fired_where_nothing_is_lost(rig: Rig) -> None:
    pods = two_pods(rig)
    assert snapshot(rig)
    links = rig.node_links()
    assert states(verb(rig, told(rig)).report(0)) == {was.pod.id: "healthy" for was in pods}
    assert fired(rig) == (2, 0, {})
    assert rig.node_links() == links
    assert_as_they_were(rig, *pods)


def test_pod_that_came_later(rig: Rig) -> None:
    first = rig.attach("pod1")
    assert snapshot(rig)
    second = rig.attach("pod2")
    rig.reload()
    assert len(states(verb(rig, told(rig)).report(0))) == 2
    assert fired(rig) == (1, 1, {})
    assert_as_they_were(rig, first, second)


def test_interface_that_came_later(rig: Rig) -> None:
    """Its pod takes the ordinary way, whole."""
    first = rig.attach("pod1")
    assert snapshot(rig)
    ipam = {**rig.conf()["ipam"], "ranges": [[{"subnet": "10.8.0.0/24"}]], "routes": []}
    second = rig.attach_pod(first.pod, rig.conf(name="second", ipam=ipam), "net1")
    rig.reload()
    command(rig, told(rig)).report(0)
    assert fired(rig) == (0, 0, {})
    for was in (first, second):
        assert rig.state(was.pod, was.ifname) == was.state


def test_pod_that_is_gone(rig: Rig) -> None:
    first, second = two_pods(rig)
    assert snapshot(rig)
    rig.reload()
    rig.plugin("DEL", first.pod).ok()
    assert states(verb(rig, told(rig)).report(0)) == {second.pod.id: "healthy"}
    assert fired(rig) == (1, 1, {})
    assert "eth0" not in rig.links(first.pod)


def test_record_that_was_changed(rig: Rig) -> None:
    """That one takes the ordinary way; the others are fired."""
    first, second = two_pods(rig)
    assert snapshot(rig)
    rig.reload()
    os.utime(rig.checkpoint(first.pod), ns=(0, 0))
    verb(rig, told(rig)).report(0)
    assert fired(rig) == (2, 2, {"its record was changed": 1})
    assert_as_they_were(rig, first, second)


def test_address_that_was_given_away_by_a_restored_lease(rig: Rig) -> None:
    """Its inode, size and mtime are those of the one that it replaces."""
    first, second = two_pods(rig)
    assert snapshot(rig)
    (lease,) = rig.base.rglob(first.address)
    was, text = lease.stat(), lease.read_bytes()
    with lease.open("r+b") as file:
        file.write(text.replace(b"pod1", b"pod9", 1))
    os.utime(lease, ns=(was.st_atime_ns, was.st_mtime_ns))
    rig.reload()
    document = verb(rig, told(rig)).report(1)
    assert fired(rig) == (2, 2, {"its lease was changed": 1})
    assert entry_of(document, first.pod)["state"] == "released"
    assert "eth0" not in rig.links(first.pod)
    assert_as_they_were(rig, second)


def test_pod_that_cannot_be_armed(rig: Rig) -> None:
    """What it needs a file for is set all the same."""
    first, second = two_pods(rig)
    rig.sysctl(first.pod, "net/ipv4/conf/eth0/rp_filter", "2")
    assert snapshot(rig)
    rig.reload()
    verb(rig, told(rig)).report(0)
    assert fired(rig) == (1, 1, {})
    assert rig.sysctl(first.pod, "net/ipv4/conf/eth0/rp_filter") == "2"
    assert_as_they_were(rig, second)


def test_rule_that_went_meanwhile(rig: Rig) -> None:
    """It outlives the interface, and so was no step: a look finds that it is missing."""
    was = rig.attach("pod1")
    rig.ip("rule add from 10.9.0.0/24 lookup main pref 77", was.pod)
    assert snapshot(rig)
    rig.reload()
    rig.ip("rule del pref 77", was.pod)
    verb(rig, told(rig)).report(0)
    assert fired(rig) == (1, 1, {})
    assert [rule["priority"] for rule in rig.ip_json("rule", was.pod)] == [0, 77, 32766, 32767]


def test_wire_that_is_not_heard_yet(rig: Rig) -> None:
    """The kernel's acknowledgements say nothing of it: the pod is not told as healthy."""
    was = rig.attach("pod1")
    assert snapshot(rig)
    rig.reload()
    rig.ip("link set tor0 down", "tor")
    at_once = "from cni_repair.repair import scheduler\nscheduler.SETTLE_SECONDS = 0.0\n"
    document = verb(rig, told(rig) + at_once).report(1)
    assert fired(rig) == (1, 1, {})
    assert entry_of(document, was.pod)["state"] == "degraded"


def test_kernel_that_refuses_the_message(rig: Rig) -> None:
    """As one before 6.15 where the node has a link of that index: nothing is fired, all is made."""
    pods = two_pods(rig)
    done = rig.cli("snapshot", *options(rig), patch=OLD_KERNEL)
    assert done.status == 0
    rig.reload()
    node = rig.node_links()
    document = verb(rig, told(rig)).report(0)
    assert fired(rig) == (2, 2, {TAKEN: 2})
    assert [len(entry["actions"]) > 0 for entry in document["attachments"]] == [True, True]
    assert rig.node_links() == node
    assert_as_they_were(rig, *pods)


def test_master_that_is_back_under_another_name(rig: Rig) -> None:
    """The old one is an altname of it: what was prepared would be told with a name of before."""
    was = rig.attach("pod1")
    assert snapshot(rig)
    back_as(rig, NEW, "eth0")
    (entry,) = verb(rig, told(rig)).report(0)["attachments"]
    assert fired(rig) == (1, 0, {})
    assert entry["actions"][0].startswith(f"ip link add link {NEW} name eth0")
    assert_as_they_were(rig, was)


def of_another_version(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data.replace(b"\n1\n", b"\n0\n", 1))


def of_another_release(file: Path) -> None:
    """Of cni-repair: what is in a row may be another."""
    data = file.read_bytes()
    version = f"\n{cni_repair.__version__}\n".encode()
    assert version in data
    file.write_bytes(data.replace(version, b"\n0.0.1\n", 1))


def of_another_python(file: Path) -> None:
    """The bytes of `marshal` are its own."""
    data = file.read_bytes()
    version = f"\n{sys.hexversion}\n".encode()
    assert version in data
    file.write_bytes(data.replace(version, f"\n{sys.hexversion + 1}\n".encode(), 1))


def a_fifo(file: Path) -> None:
    """Nobody writes into it: whoever opened it as a file would wait for ever."""
    file.unlink()
    os.mkfifo(file, 0o600)


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir(mode=0o700)


def of_no_end(file: Path) -> None:
    os.truncate(file, 1 << 40)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def damaged(file: Path) -> None:
    """One bit, in what would be sent."""
    data = bytearray(file.read_bytes())
    at = data.rindex(bytes([10, 9, 0]))  # of an address
    data[at] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def of_another_boot(file: Path) -> None:
    """(The identities say so, too.)"""
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    head, at, rest = file.read_bytes().partition(b"\n" + boot + b"\n")
    assert at
    file.write_bytes(head + b"\n" + boot[::-1] + b"\n" + rest)


def open_to_others(file: Path) -> None:
    file.chmod(0o666)


def of_somebody_else(file: Path) -> None:
    os.chown(file, 1234, 1234)


def link_elsewhere(file: Path) -> None:
    real = file.with_name("elsewhere")
    file.rename(real)
    file.symlink_to(real)


@pytest.mark.parametrize(
    "spoil",
    [
        of_another_version,
        of_another_release,
        of_another_python,
        a_fifo,
        a_directory,
        of_no_end,
        cut_short,
        damaged,
        empty,
        of_another_boot,
        open_to_others,
        of_somebody_else,
        link_elsewhere,
    ],
)
def test_index_that_is_not_used(rig: Rig, spoil: Callable[[Path], None]) -> None:
    pods = two_pods(rig)
    file = snapshot(rig)
    assert file is not None
    spoil(file)
    rig.reload()
    verb(rig, told(rig)).report(0)
    assert fired(rig) == (0, 0, {})
    assert_as_they_were(rig, *pods)


def test_index_in_a_directory_of_others(rig: Rig) -> None:
    """They could have put it there. (Nor are the locks trusted: nothing is repaired.)"""
    two_pods(rig)
    assert snapshot(rig)
    rig.reload()
    (rig.base / "run").chmod(0o777)
    document = verb(rig, told(rig)).report(1)
    assert fired(rig) == (0, 0, {})
    assert all("not trusted" in one["error"]["msg"] for one in document["attachments"])


def test_it_is_of_its_directory_of_records(rig: Rig) -> None:
    """Another one has another, or none."""
    pods = two_pods(rig)
    assert snapshot(rig)
    other = rig.base / "others"
    rig.checkpoints.rename(other)
    rig.checkpoints.mkdir(mode=0o700)
    for file in other.iterdir():
        (rig.checkpoints / file.name).write_bytes(file.read_bytes())
        (rig.checkpoints / file.name).chmod(0o600)
    rig.reload()
    verb(rig, told(rig)).report(0)
    assert fired(rig) == (0, 0, {})
    assert_as_they_were(rig, *pods)


def test_one_that_is_lost_of_two(rig: Rig) -> None:
    first, second = two_pods(rig)
    assert snapshot(rig)
    rig.ip("link del eth0", first.pod)
    document = verb(rig, told(rig)).report(0)
    assert fired(rig)[1:] == (2, {TAKEN: 1})
    assert entry_of(document, second.pod)["actions"] == []
    assert_as_they_were(rig, first, second)


def test_named_pods_alone_are_repaired(rig: Rig) -> None:
    first, second = two_pods(rig)
    assert snapshot(rig)
    rig.reload()
    done = rig.cli("repair", f"shop/{first.pod.name}", *options(rig), patch=told(rig))
    assert done.status == 0
    assert_as_they_were(rig, first)
    assert "eth0" not in rig.links(second.pod)


def test_node_without_a_writable_run_directory(rig: Rig) -> None:
    """There is no index then; nothing else changes."""
    two_pods(rig)
    (rig.base / "run").chmod(0o777)
    rig.cli("snapshot", *options(rig))
    assert [*(rig.base / "run").glob("armed-*")] == []
