"""What host-local's store says of an attachment's addresses, and what is made of that. Its files
are as plugins/ipam/host-local/backend/disk writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.checkpoint.model import Checkpoint
from cni_repair.network.planning.plan import LOST, RELEASED, Plan
from cni_repair.node.leases import (
    given_addresses,
    leases_of,
    reserved_by,
    store_of,
)
from cni_repair.node.verdict import unless_released
from tests.unit.samples import ADDRESS, ADDRESS_6, CHECKPOINT, CONTAINER

FOUR, SIX = ADDRESS.address, ADDRESS_6.address
ENDS = "\r\n"


def attached(tmp_path: Path, **ipam: Any) -> Checkpoint:
    """An attachment with an address of each family, from a host-local of its own."""
    conf = {"type": "host-local", "dataDir": str(tmp_path), **ipam}
    result = {"ips": [{"address": f"{FOUR}/22"}, {"address": f"{SIX}/64"}]}
    return replace(CHECKPOINT, netconf={"ipam": conf}, result=result)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    made = tmp_path / CHECKPOINT.network
    made.mkdir()
    return made


def lease(store: Path, address: str, content: str = CONTAINER + ENDS + "eth0") -> None:
    (store / address).write_bytes(content.encode())


# --- one file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [CONTAINER + ENDS + "eth0", CONTAINER + "\neth0\n", CONTAINER, f"  {CONTAINER} \n"],
    ids=["as written", "a line more", "an old one", "blanks"],
)
def test_ours(tmp_path: Path, store: Path, content: str) -> None:
    lease(store, FOUR, content)
    lease(store, SIX, content)
    leases = leases_of(attached(tmp_path))
    assert (leases.freed, leases.others, leases.unknown) == ((), (), ())


@pytest.mark.parametrize(
    ("content", "whose"),
    [
        ("another" + ENDS + "eth0", "eth0 of container another"),
        ("another", "container another"),
        (CONTAINER + ENDS + "net1", f"net1 of container {CONTAINER[:12]}"),
        (CONTAINER[:12] + ENDS + "eth0", f"eth0 of container {CONTAINER[:12]}"),
    ],
    ids=["another pod", "an old file", "its own second interface", "a shorter id"],
)
def test_somebody_elses(tmp_path: Path, store: Path, content: str, whose: str) -> None:
    lease(store, FOUR, content)
    lease(store, SIX)
    assert leases_of(attached(tmp_path)).others == (
        f"address {FOUR} belongs to {whose} now ({store}/{FOUR})",
    )


def test_freed(tmp_path: Path, store: Path) -> None:
    assert leases_of(attached(tmp_path)).freed == (FOUR, SIX)


def test_one_of_two_freed(tmp_path: Path, store: Path) -> None:
    lease(store, FOUR)
    assert leases_of(attached(tmp_path)).freed == (SIX,)


@pytest.mark.parametrize("spoil", ["empty", "a directory", "a fifo"])
def test_a_file_that_says_nothing(tmp_path: Path, store: Path, spoil: str) -> None:
    lease(store, SIX)
    if spoil == "empty":
        lease(store, FOUR, "")  # a power cut: host-local does not sync it
    elif spoil == "a directory":
        (store / FOUR).mkdir()
    else:
        os.mkfifo(store / FOUR)
    leases = leases_of(attached(tmp_path))
    assert (leases.freed, leases.others, leases.unknown) == ((), (), (FOUR,))


@pytest.mark.parametrize("key", ["dataDir", "DataDir"])
def test_files_that_reserve_its_addresses(tmp_path: Path, store: Path, key: str) -> None:
    """Those of its own interface, as `forget` names them; also by a delegate's ipam."""
    lease(store, FOUR)
    lease(store, SIX, CONTAINER + ENDS + "net1")
    ipam = {"type": "host-local", key: str(tmp_path)}
    made = replace(attached(tmp_path), netconf={"delegate": {"ipam": ipam}})
    assert reserved_by(made) == (f"{store}/{FOUR}",)


def test_no_file_reserves_what_is_freed(tmp_path: Path, store: Path) -> None:
    assert reserved_by(attached(tmp_path)) == ()


# --- where it is ----------------------------------------------------------------------------------


def test_without_the_store_nothing_is_known(tmp_path: Path) -> None:
    """It is on another path of the node than the plugin's, or on a file system that is away."""
    assert leases_of(attached(tmp_path)).unknown == (FOUR, SIX)


def test_a_file_in_the_stores_place(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT.network).touch()
    assert leases_of(attached(tmp_path)).unknown == (FOUR, SIX)


LOCAL = {"type": "host-local"}
STORES: dict[str, tuple[dict[str, Any], str]] = {
    "default": ({"ipam": LOCAL}, "/var/lib/cni/networks/podnet"),
    "empty": ({"ipam": {**LOCAL, "dataDir": ""}}, "/var/lib/cni/networks/podnet"),
    "given": ({"ipam": {**LOCAL, "dataDir": "/run/ipam/"}}, "/run/ipam/podnet"),
    "Go folds case": ({"ipam": {**LOCAL, "datadir": "/run/ipam"}}, "/run/ipam/podnet"),
    "the delegate's": (
        {"ipam": {"type": "dhcp"}, "delegate": {"type": "macvlan", "ipam": LOCAL}},
        "/var/lib/cni/networks/podnet",
    ),
    "a delegate without one": (
        {"ipam": LOCAL, "delegate": {"type": "macvlan"}},
        "/var/lib/cni/networks/podnet",
    ),
    "a delegate's name": ({"ipam": LOCAL, "delegate": "ipvlan"}, "/var/lib/cni/networks/podnet"),
    "relative": ({"ipam": {**LOCAL, "dataDir": "run"}}, ""),
    "no text": ({"ipam": {**LOCAL, "dataDir": 7}}, ""),
    "another IPAM": ({"ipam": {"type": "whereabouts"}}, ""),
    "none": ({}, ""),
    "not an object": ({"ipam": "host-local"}, ""),
}


@pytest.mark.parametrize(("netconf", "path"), STORES.values(), ids=STORES.keys())
def test_store(netconf: dict[str, Any], path: str) -> None:
    assert store_of(replace(CHECKPOINT, netconf=netconf)) == path


def test_a_record_of_the_predecessor_names_no_network() -> None:
    assert store_of(replace(CHECKPOINT, network="", netconf={"ipam": LOCAL})) == ""


# --- which addresses ------------------------------------------------------------------------------

RESULTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "both": ({"ips": [{"address": f"{FOUR}/22"}, {"address": f"{SIX}/64"}]}, (FOUR, SIX)),
    "as Go writes IPv6": ({"ips": [{"address": "fd00:0:0:0::155/64"}]}, (SIX,)),
    "before CNI 0.3.0": ({"ip4": {"ip": f"{FOUR}/22"}, "ip6": {"ip": f"{SIX}/64"}}, (FOUR, SIX)),
    "another interface's": (
        {
            "interfaces": [{"name": "net1"}, {"name": "eth0"}],
            "ips": [
                {"interface": 0, "address": f"{FOUR}/22"},
                {"interface": 1, "address": f"{SIX}/64"},
            ],
        },
        (SIX,),
    ),
    "taken away since": ({"ips": [{"address": "10.161.75.99/22"}]}, ()),
    "none": ({}, ()),
    "nonsense": ({"ips": [7, {"address": 7}, {"address": "x"}, {}], "ip4": 7}, ()),
}


@pytest.mark.parametrize(("result", "addresses"), RESULTS.values(), ids=RESULTS.keys())
def test_the_addresses_are_those_of_the_result(
    result: dict[str, Any], addresses: tuple[str, ...]
) -> None:
    """The record has more: those of router advertisements, or that a later plugin gave."""
    assert given_addresses(replace(CHECKPOINT, result=result)) == addresses


# --- what is made of it ---------------------------------------------------------------------------

PLAN = Plan(LOST, ("eth0 is gone",))


def test_leased_is_lost_and_made_again(tmp_path: Path, store: Path) -> None:
    lease(store, FOUR)
    lease(store, SIX)
    assert unless_released(PLAN, attached(tmp_path)) == PLAN


def test_freed_is_made_again_by_force_alone(tmp_path: Path, store: Path) -> None:
    lease(store, FOUR)
    made = unless_released(PLAN, attached(tmp_path))
    assert (made.state, made.operations) == (RELEASED, ())
    assert made.findings[1:] == (f"address {SIX} was freed ({store} does not have it any more)",)
    assert unless_released(PLAN, attached(tmp_path), force=True) == replace(PLAN, unvouched=(SIX,))


def test_what_another_has_is_not_even_made_by_force(tmp_path: Path, store: Path) -> None:
    lease(store, FOUR, "another" + ENDS + "eth0")
    for force in (False, True):
        made = unless_released(PLAN, attached(tmp_path), force)
        assert (made.state, made.operations) == (RELEASED, ())
        assert "eth0 of container another now" in made.findings[1]
