"""Documents that Go decodes into structs, which take a key in any case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_repair.base.gotypes import CONFIGURATION, RESULT, field_of, respelled
from cni_repair.checkpoint.legacy import decode
from tests.unit.samples import SEED, SEED_NAME


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"IPs": [{"Address": "a", "x": {"Y": 1}}]}, {"ips": [{"address": "a", "x": {"Y": 1}}]}),
        ({"Ip4": {"Routes": [{"DST": "d"}]}}, {"ip4": {"routes": [{"dst": "d"}]}}),
        ({"interfaces": [{"\u017fandbox": "s"}]}, {"interfaces": [{"sandbox": "s"}]}),
        ({"interfaces": {"Name": "n"}, "ips": None}, {"interfaces": {"name": "n"}, "ips": None}),
        ({"Ipß": 1, "IPSS": 2}, {"Ipß": 1, "IPSS": 2}),
        ("Ips", "Ips"),
        (None, None),
    ],
    ids=repr,
)  # fmt: skip
def test_result_is_respelled(written: Any, read: Any) -> None:
    assert respelled(written, RESULT) == read


def test_keys_of_maps_stay() -> None:
    """Go decodes these into map[string]bool and the like."""
    plugin = {
        "capabilities": {"Mac": True},
        "args": {"CNI": {}},
        "ipam": {"Ranges": [{"Subnet": 1}]},
    }
    assert respelled(plugin, CONFIGURATION) == plugin


@pytest.mark.parametrize("key", ["dataDir", "datadir", "DATADIR"])
def test_field(key: str) -> None:
    assert field_of({"other": 1, key: 2}, "dataDir") == 2


@pytest.mark.parametrize("value", [{}, {"data-dir": 1}, [], None, "dataDir"], ids=repr)
def test_no_field(value: Any) -> None:
    assert field_of(value, "dataDir") is None


def test_legacy_result_is_read_in_any_case() -> None:
    result = {
        key.upper(): [{k.upper(): v for k, v in one.items()} for one in held]
        for key, held in SEED["result"].items()
        if isinstance(held, list)
    }
    raw, capitals = (json.dumps({**SEED, **more}).encode() for more in ({}, {"result": result}))
    read = decode(capitals, SEED_NAME, ())
    assert read.attachment.addresses
    assert read.attachment == decode(raw, SEED_NAME, ()).attachment
