"""The link that a repair makes in the node and moves into the pod, where the kernel (before 6.15)
cannot make it there at once; and what is left of it when the repair is killed."""

from __future__ import annotations

import os
import signal

import pytest

from tests.netns.rig import GATEWAY4, Attachment, Pod, Rig, options, slow_but, states

# The kernel says EEXIST, as an older one does where the node has a link of that index (all have lo,
# with index 1), to the ordinary way and to an armed one.
OLD_KERNEL = """
from cni_repair.base.frozen import replace
from cni_repair.network.operations.link import AddPodLink
requests = AddPodLink.requests
def refused(self, target):
    return requests(replace(self, ifname="lo", link=replace(self.link, ifindex=1)), target)
AddPodLink.requests = refused
"""
KILLED = "os.kill(os.getpid(), 9)"
BEFORE_THE_LINK = f"""
import os
AddPodLink.temporary = lambda *a: {KILLED}
"""
BEFORE_THE_MOVE = f"""
import os
AddPodLink.move = lambda *a: {KILLED}
"""
AFTER_THE_MOVE = f"""
import os
from cni_repair.network import apply
work = apply._create_and_move
apply._create_and_move = lambda *a: (work(*a), {KILLED})
"""
# As if the pod had got a link of that name meanwhile: moved, then not renamed.
RENAME_REFUSED = """
from cni_repair.network.kernel.link import moved_link
from cni_repair.netlink import codec, constants
def move(self, ifindex, netns):
    body = moved_link(ifindex, netns, "lo", self.link.ifindex)
    return codec.Message(constants.RTM_NEWLINK, 0, body)
AddPodLink.move = move
"""
KILLED_AFTER_THAT = f"""
import os
from cni_repair.network import apply
apply._create = lambda *a, create=apply._create: (_killing(), create(*a))
def _killing():
    apply.delete_link = lambda *a: {KILLED}
"""
SLOW = pytest.mark.slow
POINTS = {
    "before the link": BEFORE_THE_LINK,
    "before the move": BEFORE_THE_MOVE,
    "after the move": AFTER_THE_MOVE,
    "when the name was refused": RENAME_REFUSED + KILLED_AFTER_THAT,
}

by_point = pytest.mark.parametrize(
    "point",
    [
        pytest.param(POINTS[name], id=name, marks=[] if name == "before the move" else SLOW)
        for name in POINTS
    ],
)


def lost(rig: Rig) -> Attachment:
    was = rig.attach("pod1")
    rig.reload()
    return was


def kill_repair(rig: Rig, pod: Pod, point: str) -> None:
    assert rig.plugin("REPAIR", pod, patch=OLD_KERNEL + point).status == -signal.SIGKILL


def is_noted(rig: Rig, pod: Pod) -> bool:
    return (rig.base / "run" / f"{pod.id}@eth0.lock").stat().st_size > 0


def test_the_way_of_older_kernels(rig: Rig) -> None:
    was = lost(rig)
    node = rig.node_links()
    rig.plugin("REPAIR", was.pod, patch=OLD_KERNEL).ok()
    assert rig.state(was.pod) == was.state
    assert rig.ping(was.pod, GATEWAY4)
    assert rig.node_links() == node
    assert not is_noted(rig, was.pod)


@by_point
@pytest.mark.parametrize("kernel", ["", OLD_KERNEL], ids=["new", "old"])
def test_killed_and_repaired(rig: Rig, point: str, kernel: str) -> None:
    """By the other form of the message, too: it has no look at what may be in its way."""
    was = lost(rig)
    node = rig.node_links()
    kill_repair(rig, was.pod, point)
    assert is_noted(rig, was.pod)
    rig.plugin("REPAIR", was.pod, patch=kernel).ok()
    assert rig.state(was.pod) == was.state
    assert rig.node_links() == node
    assert set(rig.links(was.pod)) == {"lo", "eth0"}
    assert not is_noted(rig, was.pod)


@by_point
@pytest.mark.parametrize("verb", slow_but(["DEL", "ADD"], "DEL"))
def test_killed_and_deleted(rig: Rig, point: str, verb: str) -> None:
    was = lost(rig)
    node = rig.node_links()
    kill_repair(rig, was.pod, point)
    rig.plugin("DEL", was.pod).ok()
    if verb == "ADD":
        rig.plugin("ADD", was.pod).ok()
        rig.plugin("DEL", was.pod).ok()
    assert rig.node_links() == node
    assert set(rig.links(was.pod)) == {"lo"}
    assert rig.leases() == {}
    assert not [name for name in os.listdir(rig.base / "run") if "@" in name]


@by_point
@pytest.mark.parametrize("way", ["GC", "forget"])
def test_killed_and_its_pod_is_gone(rig: Rig, point: str, way: str) -> None:
    was = lost(rig)
    node = rig.node_links()
    kill_repair(rig, was.pod, point)
    rig.drop_pod(was.pod)
    if way == "GC":
        rig.plugin("GC", None, {**rig.conf(), "cni.dev/valid-attachments": []}).ok()
    else:
        rig.cli("forget", was.pod.id, "-o", "json", *options(rig)).ok()
    assert rig.node_links() == node
    assert rig.kept() == []
    assert not [name for name in os.listdir(rig.base / "run") if "@" in name]


def test_record_removed_by_hand_and_gc(rig: Rig) -> None:
    """Of the attachment nothing is left but the lock, which says what else is."""
    was = lost(rig)
    node = rig.node_links()
    kill_repair(rig, was.pod, BEFORE_THE_MOVE)
    rig.checkpoint(was.pod).unlink()
    rig.plugin("GC", None, {**rig.conf(), "cni.dev/valid-attachments": []}).ok()
    assert rig.node_links() == node


def test_armed_repair_leaves_it_to_the_ordinary_way(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.cli("snapshot", "-o", "json", *options(rig)).ok()
    rig.reload()
    node = rig.node_links()
    kill_repair(rig, was.pod, BEFORE_THE_MOVE)
    missed = rig.base / "missed"
    told = f"""
from cni_repair.repair.armed.ready import Armed
close = Armed.close
Armed.close = lambda self: (open({str(missed)!r}, "w").write(repr(self.missed)), close(self))
"""
    rig.plugin("REPAIR", patch=told).report(0)  # (Of one pod alone, it does not read the index.)
    assert missed.read_text(encoding="utf-8") == "{'a repair of it was killed': 1}"
    assert rig.state(was.pod) == was.state
    assert rig.node_links() == node


def test_refused_rename_leaves_nothing_in_the_pod(rig: Rig) -> None:
    was = lost(rig)
    node = rig.node_links()
    report = rig.plugin("REPAIR", was.pod, patch=OLD_KERNEL + RENAME_REFUSED).report(1)
    assert "File exists" in str(report)
    assert set(rig.links(was.pod)) == {"lo"}
    assert rig.node_links() == node
    rig.plugin("REPAIR", was.pod).ok()
    assert rig.state(was.pod) == was.state


def test_link_on_its_way_into_the_pod_is_no_renamed_interface(rig: Rig) -> None:
    """As the REPAIR of an older version, killed, has left it: nothing is noted."""
    was = lost(rig)
    kill_repair(rig, was.pod, POINTS["when the name was refused"])
    os.truncate(rig.base / "run" / f"{was.pod.id}@eth0.lock", 0)
    report = rig.cli("status", "-o", "json", *options(rig)).report(1)
    assert states(report) == {was.pod.id: "lost"}
    assert "will not recover" not in str(report)
    rig.plugin("REPAIR", was.pod).ok()
    assert rig.state(was.pod) == was.state
    assert set(rig.links(was.pod)) == {"lo", "eth0"}
