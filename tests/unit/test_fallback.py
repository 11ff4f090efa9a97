"""`fallbackMaster`: which links of the configuration are other ones than the recorded master."""

from __future__ import annotations

from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.network.model import HostLink
from cni_repair.uplink.fallback import other_masters, others_in_words
from tests.unit.samples import CHECKPOINT, MASTER, UPLINK

BY_ALTNAME = replace(UPLINK, altnames=("enp6s0", "a-name-of-more-than-15-bytes"))
OUTER = replace(MASTER, altnames=("storage",))
INNER = replace(MASTER, name="eth0.3.5")

CASES: dict[str, tuple[tuple[HostLink, ...], dict[str, Any], list[str], str]] = {
    "others": ((UPLINK,), {"master": ["bond4", "eth0", "eth1"]}, ["bond4", "eth1"],
        "bond4, then eth1"),
    "master2": ((UPLINK,), {"master": "eth0", "master2": "eth1"}, ["eth1"], "eth1"),
    "on a VLAN": ((MASTER, UPLINK), {"master": ["eth0", "eth1"], "vlanId": 3}, ["eth1"], "eth1.3"),
    "the predecessor's": ((MASTER, UPLINK), {"master": ["eth0", "eth1"], "vlanID": 3}, ["eth1"],
        "eth1.3"),
    "its own altnames": ((BY_ALTNAME,), {"master": [*BY_ALTNAME.names, "eth1"]}, ["eth1"], "eth1"),
    "on a VLAN, its own altnames": (
        (MASTER, BY_ALTNAME), {"master": [*BY_ALTNAME.names, "eth1"], "vlanId": 3}, ["eth1"],
        "eth1.3",
    ),
    "a VLAN over a VLAN": (
        (INNER, OUTER, UPLINK), {"master": ["storage", "eth0"], "vlanId": 5}, ["eth0"], "eth0.5",
    ),
    "of nothing below is known": ((MASTER,), {"master": ["eth0", "eth0.3"], "vlanId": 3}, ["eth0"],
        "eth0.3"),
    "not allowed": ((UPLINK,), {"master": ["eth0", "eth1"], "fallbackMaster": False}, [], ""),
}  # fmt: skip


@pytest.mark.parametrize(("parents", "keys", "masters", "words"), CASES.values(), ids=list(CASES))
def test_others(
    parents: tuple[HostLink, ...], keys: dict[str, Any], masters: list[str], words: str
) -> None:
    attachment = replace(CHECKPOINT.attachment, parents=parents)
    netconf = {"fallbackMaster": True, **keys}
    checkpoint = replace(CHECKPOINT, attachment=attachment, netconf=netconf)
    assert other_masters(checkpoint) == masters
    assert others_in_words(checkpoint) == words
