"""What the system refuses is told as that: no bug, no traceback, and no pod that is gone."""

from __future__ import annotations

import errno

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
