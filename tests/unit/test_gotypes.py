"""Documents that Go decodes into structs, which take a key in any case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_repair.base.gotypes import CONFIGURATION, RESULT, field_of, misfit, respelled
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


@pytest.mark.parametrize(
    ("result", "where"),
    [
        ({"ips": {}}, ".ips: expected a list"),
        ({"ips": [{}, {"address": 1}]}, ".ips[1].address: expected a text"),
        ({"ips": [{"interface": 1.0}]}, ".ips[0].interface: expected an integer"),
        ({"ips": [{"interface": True}]}, ".ips[0].interface: expected an integer"),
        ({"interfaces": [{"mtu": 1 << 63}]}, ".interfaces[0].mtu: expected an integer"),
        ({"ip4": "a"}, ".ip4: expected an object"),
        ({"ip4": {"routes": [[]]}}, ".ip4.routes[0]: expected an object"),
        ({"dns": {"search": [1]}}, ".dns.search[0]: expected a text"),
    ],
    ids=str,
)
def test_what_go_does_not_decode_is_named(result: Any, where: str) -> None:
    assert misfit(result, RESULT) == where


@pytest.mark.parametrize(
    "result", [{}, {"ips": None, "odd": 1}, {"ips": [None, {"interface": None}]}], ids=str
)
def test_what_go_decodes(result: Any) -> None:
    assert misfit(result, RESULT) == ""


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
