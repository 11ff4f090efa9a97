"""Pods whose network namespace belongs to a user namespace of their own (hostUsers: false)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.rig import Outcome, Pod, Rig, entry_of, eventually

POD = Pod("mapped")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as made:
        yield made


@pytest.fixture
def pid(rig: Rig) -> Iterator[int]:
    """A process that is root in a user namespace, and has the network namespace of the pod."""
    with rig.started("unshare", "--user", "--map-root-user", "--net", "sleep", "1000") as process:
        own = os.stat("/proc/self/ns/user").st_ino
        mapped = Path(f"/proc/{process.pid}")
        eventually(
            lambda: (
                os.stat(mapped / "ns/user").st_ino != own
                and (mapped / "uid_map").read_text().split() == ["0", "0", "1"]
                and (mapped / "comm").read_text() == "sleep\n"
            ),
            "its user namespace",
        )
        yield process.pid


def inside(rig: Rig, pid: int, *command: str) -> Outcome:
    """Run a command as the pod's root."""
    return rig.run("nsenter", f"--target={pid}", "--user", "--net", *command, check=False)


def attach(rig: Rig, pid: int) -> str:
    """The pod's address."""
    added = rig.plugin("ADD", POD, netns=f"/proc/{pid}/ns/net").ok()
    return str(added["ips"][0]["address"])


def test_it_is_repaired_like_any_other(rig: Rig, pid: int) -> None:
    address = attach(rig, pid)
    rig.reload()
    assert entry_of(rig.plugin("REPAIR").report(0), POD)["state"] == "healthy"
    assert address in inside(rig, pid, "ip", "addr", "show", "dev", "eth0").out
    deleted = inside(rig, pid, "ip", "link", "del", "eth0")
    assert deleted.status == 0, deleted  # its root has the right, there
    assert entry_of(rig.plugin("REPAIR").report(0), POD)["state"] == "healthy"
    assert address in inside(rig, pid, "ip", "addr", "show", "dev", "eth0").out
    rig.plugin("DEL", POD, netns=f"/proc/{pid}/ns/net").ok()
    assert rig.leases() == {}


def test_a_link_that_its_root_made_is_foreign(rig: Rig, pid: int) -> None:
    attach(rig, pid)
    for command in ("del eth0", "add eth0 type veth peer name other"):
        assert inside(rig, pid, "ip", "link", *command.split()).status == 0
    entry = entry_of(rig.plugin("REPAIR").report(1), POD)
    assert (entry["state"], entry["actions"]) == ("foreign", [])
    assert "veth" in inside(rig, pid, "ip", "-d", "link", "show", "dev", "eth0").out


def test_its_root_has_no_rights_on_the_node(rig: Rig, pid: int) -> None:
    attach(rig, pid)
    for command in (
        ("ip", "link", "set", "eth0", "netns", "1"),
        ("nsenter", "--net=/proc/1/ns/net", "true"),
    ):
        refused = inside(rig, pid, *command)
        # EPERM or EACCES, as the kernel has it.
        assert re.search("not permitted|Permission denied", refused.err), (command, refused)
