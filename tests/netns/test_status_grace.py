"""STATUS forgives a master that went a short while ago (`statusGrace`), and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cni_repair.checkpoint.locks import Lock
from tests.netns.rig import Json, Rig, eventually


def status(rig: Rig, **changes: Any) -> int:
    """The code that STATUS answers; 0 where it says nothing."""
    outcome = rig.plugin("STATUS", conf=rig.conf(**changes))
    if outcome.status == 0:
        assert outcome.out == ""
        return 0
    return int(outcome.report(1)["code"])


def remembered(rig: Rig) -> Path:
    (found,) = (rig.base / "run").glob("master-*")
    return found


def change(rig: Rig, **keys: object) -> None:
    """Rewrite what is remembered, as a test cannot wait for it."""
    document: Json = json.loads(remembered(rig).read_text())
    remembered(rig).write_text(json.dumps(document | keys))


def be_away_for(rig: Rig, seconds: float) -> None:
    since = json.loads(remembered(rig).read_text())["awaySince"]
    change(rig, awaySince=since - seconds)


def lose(rig: Rig) -> None:
    """The master goes, after STATUS has seen it."""
    assert status(rig) == 0
    rig.uplink_down()


def test_short_absence_is_forgiven_and_a_long_one_is_not(rig: Rig) -> None:
    lose(rig)
    assert status(rig) == 0
    be_away_for(rig, 30)
    assert status(rig) == 0
    be_away_for(rig, 30)
    words = rig.plugin("STATUS").error(50)
    assert "no master exists: eth0" in words
    assert "statusGrace is 60 s" in words
    assert status(rig, statusGrace=3600) == 0
    assert status(rig, statusGrace=0) == 50


def test_the_time_passes_by_itself(rig: Rig) -> None:
    lose(rig)
    eventually(lambda: status(rig, statusGrace=1.5) == 50, "the grace to end")


def test_pods_that_are_there(rig: Rig) -> None:
    rig.attach("pod1")
    rig.uplink_down()
    assert status(rig) == 0  # no STATUS has seen the master; a record of this boot has
    be_away_for(rig, 60)
    assert status(rig) == 51


def test_add_meanwhile_is_to_be_tried_again(rig: Rig) -> None:
    lose(rig)
    pod = rig.pod("pod1")
    rig.plugin("ADD", pod).error(11)
    assert status(rig) == 0
    be_away_for(rig, 60)
    rig.plugin("ADD", pod).error(11)
    assert status(rig) == 50
    rig.uplink_up()
    rig.plugin("ADD", pod).ok()


def test_add_is_a_witness_too(rig: Rig) -> None:
    lose(rig)
    rig.plugin("ADD", rig.pod("pod1")).error(11)
    be_away_for(rig, 60)
    assert status(rig) == 50


@pytest.mark.parametrize("seconds", [5, 500])
def test_each_absence_is_counted_anew(rig: Rig, seconds: int) -> None:
    lose(rig)
    assert status(rig) == 0
    be_away_for(rig, seconds)
    rig.uplink_up()
    lose(rig)
    assert status(rig) == 0
    be_away_for(rig, 30)
    assert status(rig) == 0


# --- whose absence it is --------------------------------------------------------------------------


def test_master_that_was_never_there(rig: Rig) -> None:
    """A wrong name, or a node that has just booted: no pod should be placed there."""
    rig.attach("pod1")
    assert status(rig) == 0
    words = rig.plugin("STATUS", conf=rig.conf(master="eht0")).error(51)
    assert "never there" in words
    rig.plugin("ADD", rig.pod("pod2"), rig.conf(master="eht0")).error(11)
    assert status(rig, master="eht0") == 51
    assert status(rig, name="others", master="eht0") == 50


def test_networks_and_masters_are_told_apart(rig: Rig) -> None:
    lose(rig)
    assert status(rig) == 0
    be_away_for(rig, 60)
    rig.uplink_up()
    both = {"master": ["bond4", "eth0"]}
    assert (status(rig, **both), status(rig, name="others")) == (0, 0)
    rig.uplink_down()
    assert (status(rig, **both), status(rig, name="others"), status(rig)) == (0, 0, 50)


def test_another_of_the_masters_is_enough(rig: Rig) -> None:
    conf = {"master": ["eth0", "spare0"]}
    assert status(rig, **conf) == 0
    rig.ip("link add spare0 type bridge")
    rig.uplink_down()
    assert status(rig, statusGrace=0, **conf) == 0


def test_default_route_that_went(rig: Rig) -> None:
    rig.ip("addr add 10.9.0.2/24 dev eth0")
    rig.ip("route add default via 10.9.0.1")
    assert status(rig, master=None) == 0
    rig.uplink_down()
    assert status(rig, master=None) == 0
    rig.plugin("ADD", rig.pod("pod1"), rig.conf(master=None)).error(11)
    be_away_for(rig, 60)
    assert "default route" in rig.plugin("STATUS", conf=rig.conf(master=None)).error(50)


def test_what_stands_in_the_way_is_not_forgiven(rig: Rig) -> None:
    """It does not go by itself, as a driver comes back."""
    assert status(rig, vlanId=3) == 0
    rig.ip("link add eth0.3 type bridge")
    assert status(rig, vlanId=3) == 50


GOING = {
    "before the look": "master.uplink = lambda conf: 'gone0'",
    "while its chain is read": "ensure.chain_from = lambda rtnl, index: ()\n"
    "ensure._find = lambda rtnl, recorded, below: None",
}


@pytest.mark.parametrize("when", GOING)
def test_master_that_goes_while_it_is_looked_at(rig: Rig, when: str) -> None:
    conf = rig.conf(vlanId=3)
    rig.plugin("STATUS", conf=conf).ok()
    patch = (
        f"from cni_repair.cni import master\nfrom cni_repair.uplink import ensure\n{GOING[when]}"
    )
    rig.plugin("STATUS", conf=conf, patch=patch).ok()
    rig.plugin("STATUS", conf={**conf, "statusGrace": 0}, patch=patch).error(50)


# --- what is remembered, and where ----------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"bootId": "5b1f6c5e-0000-4000-8000-000000000000"},
        {"awaySince": 1e12},
        {"awaySince": -1.0},
        {"awaySince": "yesterday"},
        {"awaySince": True},
        {"masters": ["eth9"]},
        {"network": "others"},
        {"bootId": 5},
    ],
    ids=str,
)
def test_what_does_not_hold_for_this_boot_and_network_counts_for_nothing(
    rig: Rig, keys: Json
) -> None:
    lose(rig)
    assert status(rig) == 0
    change(rig, **keys)
    assert status(rig) == 50  # as if the master had never been there
    rig.uplink_up()
    lose(rig)
    assert status(rig) == 0


def test_run_directory_was_emptied(rig: Rig) -> None:
    rig.attach("pod1")
    lose(rig)
    assert status(rig) == 0
    be_away_for(rig, 60)
    remembered(rig).unlink()
    assert status(rig) == 0  # counted anew


def full(rig: Rig) -> None:
    where = rig.base / "run"
    rig.run("mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", str(where))
    rig.run("sh", "-c", f"head -c 4096 /dev/zero >{where}/filler")


def read_only(rig: Rig) -> None:
    where = str(rig.base / "run")
    rig.run("mount", "--bind", where, where)
    rig.run("mount", "-o", "remount,ro,bind", where)


def of_others(rig: Rig) -> None:
    (rig.base / "run").chmod(0o777)


def no_directory(rig: Rig) -> None:
    (rig.base / "run").write_text("")


def garbage(rig: Rig) -> None:
    remembered(rig).write_text("{")


def symbolic_link(rig: Rig) -> None:
    file = remembered(rig)
    file.rename(rig.base / "elsewhere")
    file.symlink_to(rig.base / "elsewhere")


def fifo(rig: Rig) -> None:
    file = remembered(rig)
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "spoil", [full, read_only, of_others, no_directory], ids=lambda f: f.__name__
)
def test_what_cannot_be_remembered_is_not_forgiven(rig: Rig, spoil: Callable[[Rig], None]) -> None:
    """Else it would be forgiven for ever. While the master is there, STATUS says so."""
    rig.attach("pod1")
    run = rig.base / "run"
    if spoil is no_directory:
        run.rename(rig.base / "was")
    spoil(rig)
    assert status(rig) == 0
    rig.uplink_down()
    for _ in range(2):
        words = rig.plugin("STATUS").error(51)
        assert str(run) in words
        assert "nobody can tell since when" in words


@pytest.mark.parametrize("spoil", [garbage, symbolic_link, fifo], ids=lambda f: f.__name__)
def test_spoilt_document_is_replaced_once_the_master_is_back(
    rig: Rig, spoil: Callable[[Rig], None]
) -> None:
    lose(rig)
    spoil(rig)
    assert str(remembered(rig)) in rig.plugin("STATUS").error(50)
    rig.uplink_up()
    lose(rig)
    assert status(rig) == 0


def test_many_ask_at_once(rig: Rig) -> None:
    """The runtime, for the kubelet, and whoever looks at it by hand."""
    lose(rig)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: status(rig), range(16))) == {0}
    be_away_for(rig, 60)
    rig.uplink_up()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: status(rig), range(16))) == {0}
    assert json.loads(remembered(rig).read_text())["awaySince"] is None


def test_lock_that_is_never_released(rig: Rig) -> None:
    """By a process that is stopped, say. STATUS answers all the same."""
    lose(rig)
    patch = "from cni_repair.cni import absence\nabsence._LOCK_SECONDS = 0.2"
    with Lock(str(rig.base / "run"), "masters"):
        assert "masters" in rig.plugin("STATUS", patch=patch).error(50)
    assert status(rig) == 0


def test_nothing_is_remembered_without_grace(rig: Rig) -> None:
    assert status(rig, statusGrace=0) == 0
    rig.uplink_down()
    assert status(rig, statusGrace=0) == 50
    rig.plugin("ADD", rig.pod("pod1"), rig.conf(statusGrace=0)).error(11)
    assert not list((rig.base / "run").glob("master*"))


def test_delegate_is_asked_meanwhile(rig: Rig) -> None:
    """What is wrong with it, or with its IPAM, has no grace."""
    versions = json.dumps({"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]})
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = VERSION ] && {{ echo '{versions}'; exit; }}
        [ -e {rig.base}/well ] && exit
        echo '{{"code": 50, "msg": "no addresses"}}'
        exit 1
        """,
    )
    well = rig.base / "well"
    well.touch()
    assert status(rig, cniVersion="1.1.0") == 0
    rig.uplink_down()
    assert status(rig, cniVersion="1.1.0") == 0
    well.unlink()
    assert "no addresses" in rig.plugin("STATUS", conf=rig.conf(cniVersion="1.1.0")).error(50)
