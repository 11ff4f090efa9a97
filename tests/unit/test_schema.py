"""The checkpoint's published schema: made of the readers, and so are the kinds' own."""

from __future__ import annotations

import json
from collections.abc import Callable

import jsonschema
import pytest

from cni_repair.base import kinds
from cni_repair.base.kinds import Kind
from cni_repair.checkpoint import schema
from cni_repair.network.kernel import address, link, neighbour, route, rule, vlan
from cni_repair.network.kernel.table import Table


def test_published_schema_is_the_one_that_is_made() -> None:
    made = "it is made by: python3 -m cni_repair.checkpoint.schema"
    assert schema.FILE.read_text(encoding="ascii") == schema.text(), made


@pytest.mark.parametrize(
    ("definition", "table"),
    [
        ("link", link.TABLE),
        ("parent", link.HOST),
        ("vlan", vlan.TABLE),
        ("address", address.TABLE),
        ("route", route.TABLE),
        ("hop", route.HOP),
        ("rule", rule.TABLE),
        ("neighbour", neighbour.TABLE),
    ],
)
def test_every_row_of_a_table_is_in_the_schema(definition: str, table: Table) -> None:
    described = schema.generate()["$defs"][definition]["properties"]
    assert described.keys() == {kinds.camel(row.name) for row in table.rows}


def test_definition_that_nobody_refers_to_is_not_there() -> None:
    text = schema.text()
    for name in schema.generate()["$defs"]:
        assert f'"#/$defs/{name}"' in text


# A value of each kind, and one that it refuses.
KINDS: dict[str, tuple[Kind, object, object]] = {
    "integer": (kinds.integer(1, 5), 5, 6),
    "text": (kinds.text, "pod", 5),
    "ifname": (kinds.ifname, "eth0.3", "a/b"),
    "altname": (kinds.altname, "podnet0", ""),
    "identifier": (kinds.identifier, "podnet_1", "../x"),
    "one-of": (kinds.one_of("l2", "l3"), "l3", "l4"),
    "flag": (kinds.flag, True, 1),
    "mac": (kinds.mac, "6e:92:1a:b4:fc:34", "6e:92"),
    "ip-address": (kinds.ip_address, "fd00::1", "localhost"),
    "ip-prefix": (kinds.ip_prefix, "10.0.0.0/8", "10.0.0.0"),
    "any-object": (kinds.any_object, {"free": [1]}, []),
    "pair": (kinds.pair_of(1, 9), [1, 9], [1]),
    "metrics": (route.METRICS, [[2, 1400]], [[0, 1]]),
    "list": (kinds.list_of(kinds.flag), [True], [1]),
    "some": (kinds.some_of(kinds.flag), [True], []),
    "object": (kinds.object_of({"is_up": kinds.flag}, ["is_up"]), {"isUp": True}, {}),
}


@pytest.mark.parametrize(("kind", "good", "bad"), KINDS.values(), ids=KINDS.keys())
def test_kind_and_its_schema_agree(kind: Kind, good: object, bad: object) -> None:
    is_valid = validator_of(kind)
    kind(good)
    assert is_valid(good)
    with pytest.raises(kinds.Misfit):
        kind(bad)
    assert not is_valid(bad)


def test_any_value_is_any() -> None:
    is_valid = validator_of(kinds.any_value)
    values: tuple[object, ...] = (None, 1, "a", [], {})
    for value in values:
        assert kinds.any_value(value) is value
        assert is_valid(value)


def test_more_that_is_checked_changes_no_schema() -> None:
    def refuse(_: object) -> None:
        raise kinds.Misfit(": never")

    never = kinds.checked(kinds.flag, refuse)
    assert never.schema() == kinds.flag.schema()
    with pytest.raises(kinds.Misfit, match="never"):
        never(True)


def validator_of(kind: Kind) -> Callable[[object], bool]:
    described = json.loads(json.dumps(kind.schema()))
    jsonschema.Draft202012Validator.check_schema(described)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(described, format_checker=checker).is_valid
