"""What the system refuses is told as that: no bug, no traceback, and no pod that is gone."""

from __future__ import annotations

import errno
import json

import pytest

from cni_repair.base.errors import IO, REPAIR_FAILED
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from tests.netns.rig import Rig, options, states

# What says of an open that it failed, and nothing of the file.
REFUSED = ("EMFILE", "ENOMEM", "EIO", "EACCES")


def refusing(error: str, path: str, call: str = "open") -> str:
    """Code that has one of os's functions answer so for one path, as often as it is called."""
    number = getattr(errno, error)
    return f"""
import os
real = os.{call}
def refuse(path, *arguments, **options):
    if path == {path!r}:
        raise OSError({number}, os.strerror({number}), path)
    return real(path, *arguments, **options)
os.{call} = refuse
"""


# --- a namespace that cannot be opened is not gone ------------------------------------------------


@pytest.mark.parametrize("error", REFUSED)
def test_del_takes_nothing_away(rig: Rig, error: str) -> None:
    pod = rig.attach("a1").pod
    kept, leases = rig.kept(), rig.leases()
    rig.plugin("DEL", pod, patch=refusing(error, pod.path)).error(IO)
    assert (rig.kept(), rig.leases()) == (kept, leases)
    assert "eth0" in rig.links(pod)
    rig.plugin("DEL", pod).ok()
    assert (rig.kept(), rig.leases()) == ([], {})


@pytest.mark.parametrize("error", REFUSED)
def test_gc_takes_nothing_away(rig: Rig, error: str) -> None:
    pod = rig.attach("a1").pod
    kept, leases = rig.kept(), rig.leases()
    conf = rig.conf(cniVersion="1.1.0") | {"cni.dev/valid-attachments": []}
    outcome = rig.plugin("GC", conf=conf, patch=refusing(error, pod.path))
    assert "cannot open netns" in outcome.error(REPAIR_FAILED)
    assert (rig.kept(), rig.leases()) == (kept, leases)
    assert "eth0" in rig.links(pod)


@pytest.mark.parametrize("error", REFUSED)
def test_repair_does_not_call_it_stale(rig: Rig, error: str) -> None:
    pod = rig.attach("a1").pod
    outcome = rig.plugin("REPAIR", pod, patch=refusing(error, pod.path))
    assert "cannot be told" in outcome.error(IO)
    everyone = rig.plugin("REPAIR", patch=refusing(error, pod.path)).report(1)
    assert states(everyone) == {pod.id: "degraded"}


@pytest.mark.parametrize("call", ["open", "stat"])
@pytest.mark.parametrize("error", REFUSED)
def test_adopt_keeps_the_record_of_a_living_pod(rig: Rig, error: str, call: str) -> None:
    """That of a pod which another plugin has attached, and which no cache tells of any more."""
    pod = rig.attach("a1").pod
    record = rig.checkpoint(pod)
    made = model.decode(record.read_bytes(), record.name)
    adopted = replace(made, netconf={**made.netconf, "type": "macvlan"})
    record.write_text(model.encode_checked(adopted))
    words = ("adopt", "--write", *options(rig), "-o", "json")
    outcome = rig.cli(*words, patch=refusing(error, pod.path, call))
    assert outcome.status == 1
    assert "Traceback" not in outcome.err
    assert record.read_text() == model.encode_checked(adopted)


# --- and what else is told as it is ---------------------------------------------------------------

CANNOT_RETURN = """
import errno, os
from cni_repair.netlink import netns
real, home, here = netns.setns_function(), os.stat("/proc/self/ns/net").st_ino, []
def setns(fd, kind):
    target = os.stat(fd).st_ino
    if target == home and here[-1:] not in ([], [home]):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    real(fd, kind)
    here.append(target)
netns._found[:] = [setns]
"""
ASTRAY = "cannot return to the node's network namespace"


def test_who_cannot_return_to_the_node_ends_at_once(rig: Rig) -> None:
    pod = rig.attach("a1").pod
    rig.ip("link del eth0", pod)
    outcome = rig.plugin("REPAIR", pod, patch=CANNOT_RETURN)
    assert ASTRAY in outcome.error(IO)
    assert outcome.out.count("\n") == 1
    rig.plugin("REPAIR", pod).ok()


def test_nor_does_a_command_go_on(rig: Rig) -> None:
    rig.attach("a1")
    outcome = rig.cli("repair", "--all", *options(rig), patch=CANNOT_RETURN)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.strip() == f"cni-repair: {ASTRAY}: Cannot allocate memory"


def test_add_that_ends_at_once_is_cleaned_up_by_del(rig: Rig) -> None:
    pod = rig.pod("a1")
    assert ASTRAY in rig.plugin("ADD", pod, patch=CANNOT_RETURN).error(IO)
    rig.plugin("DEL", pod).ok()
    assert (rig.kept(), rig.leases()) == ([], {})
    assert "eth0" not in rig.links(pod)


def test_add_whose_answer_nobody_reads_is_taken_back(rig: Rig) -> None:
    pod = rig.pod("a1")
    netconf = rig.base / "netconf"
    netconf.write_text(json.dumps(rig.conf()), encoding="utf-8")
    script = f"exec {rig.launcher()} <{netconf} >/dev/full"
    outcome = rig.run("sh", "-c", script, env=rig.environ("ADD", pod), check=False)
    assert outcome.status == 1
    assert (rig.kept(), rig.leases()) == ([], {})
    assert "eth0" not in rig.links(pod)


@pytest.mark.parametrize("error", ["EMFILE", "EIO"])
def test_a_master_that_cannot_be_asked_for_is_no_other(rig: Rig, error: str) -> None:
    """The second of two would be taken for the first, which is there."""
    number = getattr(errno, error)
    patch = f"""
import fcntl, os
real = fcntl.ioctl
def ioctl(fd, request, *rest):
    if request == 0x8933 and rest[0].startswith(b"eth0"):
        raise OSError({number}, os.strerror({number}))
    return real(fd, request, *rest)
fcntl.ioctl = ioctl
"""
    pod = rig.pod("a1")
    rig.plugin("ADD", pod, rig.conf(master=["eth0", "lo"]), patch=patch).error(IO)
    assert (rig.kept(), rig.leases()) == ([], {})


@pytest.mark.parametrize("words", [("status",), ("repair", "--all"), ("snapshot",)])
def test_a_listing_that_fails_is_not_the_report(rig: Rig, words: tuple[str, ...]) -> None:
    rig.attach("a1")
    patch = f"""
import os
real = os.listdir
def listdir(path="."):
    if isinstance(path, int):
        raise OSError({errno.EIO}, os.strerror({errno.EIO}), path)
    return real(path)
os.listdir = listdir
"""
    outcome = rig.cli(*words, *options(rig), patch=patch)
    assert outcome.status == 1
    remedy = "see to the disk (dmesg), then call again (in checkpoint/store.py"
    assert f"the system refused: Input/output error: {remedy}" in outcome.err
    assert "report" not in outcome.err
