"""An address that was freed while its interface was lost: by a DEL of the bare plugin, with the
real host-local. The interface is not made again, but for the operator's --force; with an address
that somebody else has, not even then."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.netns.rig import Attachment, Json, Outcome, Rig, entry_of, options, states

pytestmark = pytest.mark.slow  # many, though each is short


def cli(rig: Rig, *words: str) -> Outcome:
    return rig.cli(*words, "-o", "json", *options(rig))


def freed(rig: Rig, name: str = "pod1", conf: Json | None = None, ipv6: bool = False) -> Attachment:
    """A lost pod that the bare plugin was asked to detach; its namespace is still there."""
    was = rig.attach(name, conf, ipv6)
    rig.reload()
    rig.bare("DEL", was.pod, conf or rig.conf()).ok()
    return was


def assert_refused(rig: Rig, was: Attachment, words: str) -> None:
    before = rig.leases()
    entry = entry_of(rig.plugin("REPAIR").report(1), was.pod)
    assert (entry["state"], entry["actions"]) == ("released", [])
    assert any(words in finding for finding in entry["findings"]), entry
    assert words in rig.plugin("REPAIR", was.pod).error(110)
    for command in (("status",), ("plan",), ("verify",), ("repair", "--all")):
        told = entry_of(cli(rig, *command).report(1), was.pod)
        assert told["state"] == "released"
        assert any(words in finding for finding in told["findings"]), told
    assert "eth0" not in rig.links(was.pod)
    assert rig.leases() == before


def test_freed_by_the_bare_plugin(rig: Rig) -> None:
    was, other = freed(rig), rig.attach("pod2")
    assert was.address not in rig.leases()
    assert_refused(rig, was, f"address {was.address} was freed")
    assert states(rig.plugin("REPAIR").report(1))[other.pod.id] == "healthy"


def test_words_of_the_table(rig: Rig) -> None:
    was = freed(rig)
    told = rig.cli("status", *options(rig)).out
    assert "released" in told and "1 attachment: 1 released" in told
    assert "cni-repair repair --force" in told
    assert rig.cli("plan", *options(rig)).out.startswith(f"# shop/{was.pod.name} ")


def test_force_makes_what_nobody_has(rig: Rig) -> None:
    was = freed(rig)
    planned = entry_of(cli(rig, "repair", "--all", "--dry-run", "--force").report(1), was.pod)
    assert (planned["state"], bool(planned["actions"])) == ("lost", True)
    assert "eth0" not in rig.links(was.pod)
    made = cli(rig, "repair", "--force", f"shop/{was.pod.name}").report(0)
    assert states(made) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state


def freed_with_heir(rig: Rig) -> tuple[Attachment, Attachment]:
    """One whose address was freed, and another pod that was given it."""
    only = {"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.9"}
    conf = rig.conf(ipam={**rig.conf()["ipam"], "ranges": [[only]]})
    return freed(rig, conf=conf), rig.attach("heir", conf)


def test_given_to_another_pod(rig: Rig) -> None:
    """Named is who has it; --force does not make a duplicate."""
    was, heir = freed_with_heir(rig)
    assert heir.address == was.address
    assert_refused(rig, was, f"belongs to eth0 of container {heir.pod.id[:12]} now")
    for words in (("--all",), (f"shop/{was.pod.name}",)):
        report = cli(rig, "repair", "--force", *words).report(1)
        assert entry_of(report, was.pod)["state"] == "released"
    assert "eth0" not in rig.links(was.pod)
    assert rig.state(heir.pod) == heir.state


def test_both_lost_the_heir_gets_it(rig: Rig) -> None:
    was, heir = freed_with_heir(rig)
    rig.reload()
    found = states(rig.plugin("REPAIR").report(1))
    assert found == {was.pod.id: "released", heir.pod.id: "healthy"}
    assert rig.state(heir.pod) == heir.state


def test_one_of_two_addresses(rig: Rig) -> None:
    was = rig.attach("pod1", rig.conf(v6=True), ipv6=True)
    rig.reload()
    (six,) = [address for address in rig.leases() if ":" in address]
    (rig.base / "ipam" / "pods" / six).unlink()
    assert_refused(rig, was, f"address {six} was freed")
    made = cli(rig, "repair", "--force", "--all").report(0)
    assert states(made) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state


def test_an_interface_that_is_there_keeps_its_address(rig: Rig) -> None:
    """Whoever frees it frees it under a living pod: to take it away is not ours."""
    was = rig.attach("pod1")
    (rig.base / "ipam" / "pods" / was.address).unlink()
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}
    rig.ip("route del default", was.pod)
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state


def test_another_interface_of_the_pod_is_repaired(rig: Rig) -> None:
    pod = rig.pod("pod1")
    first, second = (rig.attach_pod(pod, None, name) for name in ("eth0", "net1"))
    rig.reload()
    (rig.base / "ipam" / "pods" / first.address).unlink()
    report = rig.plugin("REPAIR").report(1)
    assert {one["ifname"]: one["state"] for one in report["attachments"]} == {
        "eth0": "released",
        "net1": "healthy",
    }
    assert rig.state(pod, "net1") == second.state


def test_our_own_del_that_is_quicker_leaves_nothing_to_report(rig: Rig) -> None:
    """Its tombstone comes first, then the address is freed: between the two looks of a REPAIR."""
    was = rig.attach("pod1")
    rig.reload()
    record, lease = rig.checkpoint(was.pod), rig.base / "ipam" / "pods" / was.address
    patch = f"""
import os
from cni_repair.node import leases
leases_of = leases.leases_of
def after_del(checkpoint):
    os.rename({str(record)!r}, {str(record.with_suffix(".deleting"))!r})
    os.unlink({str(lease)!r})
    return leases_of(checkpoint)
leases.leases_of = after_del
"""
    assert rig.plugin("REPAIR", patch=patch).report(0)["attachments"] == []


def test_check_does_not_make_it_either(rig: Rig) -> None:
    was = freed(rig)
    conf = rig.conf(repairOnCheck=True, prevResult=was.result)
    assert rig.plugin("CHECK", was.pod, conf).status == 1
    assert "eth0" not in rig.links(was.pod)


def test_coverage_does_not_count_on_it(rig: Rig) -> None:
    was = freed(rig)
    report = cli(rig, "snapshot").report(1)
    (record,) = report["attachments"]
    assert (record["containerID"], record["restorable"]) == (was.pod.id, False)


def test_del_and_add_afterwards(rig: Rig) -> None:
    was = freed(rig)
    rig.plugin("DEL", was.pod).ok()
    assert rig.kept() == []
    again = rig.attach_pod(was.pod)
    rig.reload()
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == again.state


# --- the store cannot say -------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["gone", "empty file", "unreadable"])
def test_without_the_stores_word_it_is_repaired(rig: Rig, spoil: str) -> None:
    was = rig.attach("pod1")
    rig.reload()
    store = rig.base / "ipam" / "pods"
    if spoil == "gone":
        store.rename(rig.base / "away")
    elif spoil == "empty file":
        (store / was.address).write_bytes(b"")
    else:
        (store / was.address).unlink()
        (store / was.address).mkdir()
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state


def test_old_file_with_the_id_alone(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    file = rig.base / "ipam" / "pods" / was.address
    assert file.read_bytes() == f"{was.pod.id}\r\neth0".encode()  # as this host-local writes it
    file.write_text(was.pod.id, encoding="ascii")
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}


# --- others' pods ---------------------------------------------------------------------------------


def test_adopted_when_lost_after_its_address_was_freed(rig: Rig) -> None:
    """Its cache entry outlived the DEL of its address, as where the runtime was killed."""
    conf = rig.conf(type="macvlan", checkpointDir=None, runDir=None, masterTimeout=None)
    pod = rig.pod("pod1")
    result = rig.bare("ADD", pod, conf).ok()
    cache = {
        "kind": "cniCacheV1",
        "containerId": pod.id,
        "ifName": "eth0",
        "networkName": "pods",
        "netns": pod.path,
        "config": "",
        "result": result,
    }
    cache["config"] = base64.b64encode(json.dumps(conf).encode()).decode()
    directory = Path(rig.outside("/var/lib/cni/results"))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"pods-{pod.id}-eth0"
    path.write_text(json.dumps(cache), encoding="utf-8")
    path.chmod(0o600)
    rig.reload()
    rig.bare("DEL", pod, conf).ok()
    rig.cli("adopt", "--write", "-o", "json", *options(rig)).report(0)
    entry = entry_of(rig.plugin("REPAIR").report(1), pod)
    assert entry["state"] == "released"
    assert "eth0" not in rig.links(pod)
