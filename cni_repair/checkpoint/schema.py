"""The checkpoint's published JSON Schema, made of what reads checkpoints.

    python3 -m cni_repair.checkpoint.schema

writes `schema/checkpoint.json` beside this file; tests/unit/test_schema.py compares the two. A new
field of a noun's table is in it by itself; a note is for what its name and kind do not tell.
"""

from __future__ import annotations

import json
from pathlib import Path

from cni_repair.base import kinds
from cni_repair.checkpoint import records
from cni_repair.checkpoint.model import DOCUMENT, SCHEMA_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.base.kinds import Kind

FILE = Path(__file__).parent / "schema" / "checkpoint.json"


def _field(kind: Kind, key: str) -> Kind:
    assert kind.fields is not None
    return kind.fields[key]


def _entry(kind: Kind) -> Kind:
    assert kind.entry is not None
    return kind.entry


_ALL = (
    "One attachment as ADD left it: what REPAIR makes again. Numbers are the kernel's own (flags,"
    " scopes, tables, protocols, lifetimes in seconds). Keys that are not named here are a newer"
    " version's: kept, and not used."
)
# What has a name of its own, and is referred to.
_DEFINITIONS = {
    "ifname": kinds.ifname,
    "mac": kinds.mac,
    "ip": kinds.ip_address,
    "prefix": kinds.ip_prefix,
    "link": records.pod_link,
    "parent": records.parent,
    "vlan": _field(records.parent, "vlan"),
    "address": records.address,
    "route": records.route,
    "hop": _entry(_field(records.route, "hops")),
    "rule": records.rule,
    "neighbour": records.neighbour,
    "nodeLink": records.node_link,
}
# Of a field of the document, of a definition, or of a field in it.
_NOTES = {
    "checksum": "CRC-32 of the file's bytes with these eight digits as zeros",
    "pod": "K8S_POD_* of CNI_ARGS; empty where the runtime did not say",
    "attachedAt": "Unix time in milliseconds",
    "netns": "The pod's network namespace, and what tells it from another under the same path",
    "netconf": "The network configuration, secrets redacted",
    "result": "The delegate's Result, as it came",
    "parents": "The master first, then what it stands on",
    "sysctls": "net/<family>/conf/<ifname>/<name>: those that differed from the namespace's"
    " default",
    "rules": "Policy rules that name the interface, begin at one of its addresses, or lead to a"
    " table of its routes; absent where there are none",
    "neighbours": "Permanent neighbours, and proxy entries (those without a mac); absent where"
    " there are none",
    "absentRoutes": "Routes that come with the addresses by themselves, and that somebody took"
    " away; absent where there are none",
    "settled": "Taken after ADD (by CHECK, snapshot, adopt), when later plugins had done their"
    " work; absent: not",
    "addrGenMode": "The link-local addresses are among the addresses, as the kernel would make"
    " others: set this way of making them afterwards (IFLA_INET6_ADDR_GEN_MODE)",
    "minReader": "The least reader version that may repair by this record; absent: 1",
    "lifetimesAt": "Seconds since boot, when the addresses had these lifetimes; absent: they are"
    " for ever",
    "nodeLinks": "What the node had of its own over the pod's masters, as CHECK, snapshot or adopt"
    " saw it; of several checkpoints the newest counts",
    "nodeLinks.seenAt": "Unix time in milliseconds",
    "#link": "The pod's interface",
    "#link.bcqueuelen": "macvlan's IFLA_MACVLAN_BC_QUEUE_LEN; absent where not known",
    "#link.deviceFlags": "IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST, IFF_DYNAMIC; absent"
    " where not known",
    "#parent": "A link of the node",
    "#vlan": "IFLA_VLAN_*",
    "#vlan.egress": "A packet's priority, that of its frame",
    "#vlan.ingress": "A frame's priority, that of its packet",
    "#address": "IFA_*",
    "#address.metric": "Of the route that comes with it",
    "#address.proto": "IFA_PROTO",
    "#route": "RTA_*",
    "#route.metrics": "Pairs of RTAX_* and value",
    "#route.src": "Of IPv6: only for packets from this prefix",
    "#route.hops": "The next hops of an IPv4 multipath route",
    "#route.shared": "One of several next hops of an IPv6 multipath route",
    "#route.expires": "Seconds left, of IPv6",
    "#rule": "FRA_*; what is absent selects everything",
    "#rule.sport": "First and last",
    "#rule.dport": "First and last",
    "#rule.uidRange": "First and last",
    "#rule.action": "FR_ACT_*: lookup, blackhole, unreachable, prohibit",
    "#neighbour": "NDA_*",
    "#neighbour.flags": "NTF_EXT_LEARNED, NTF_ROUTER",
    "#nodeLink": "A VLAN of the node, or, with `shim`, a link like the pods' over `master`",
}


def generate() -> dict[str, Any]:
    """The schema."""
    names = {kind: name for name, kind in _DEFINITIONS.items()}

    def inner(kind: Kind) -> dict[str, Any]:
        name = names.get(kind)
        return {"$ref": f"#/$defs/{name}"} if name else kind.schema(inner)

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"cni-repair checkpoint, schemaVersion {SCHEMA_VERSION}",
        "description": _ALL,
        **DOCUMENT.schema(inner),
        "$defs": {name: kind.schema(inner) for name, kind in _DEFINITIONS.items()},
    }
    for place, note in _NOTES.items():
        _at(schema, place)["description"] = note
    return schema


def _at(schema: dict[str, Any], place: str) -> dict[str, Any]:
    """The schema of "field.field", or of "#definition.field"; KeyError where there is none."""
    first, *fields = place.split(".")
    found = schema
    if first.startswith("#"):
        found = schema["$defs"][first[1:]]
    else:
        fields = [first, *fields]
    for field in fields:
        found = found["properties"][field]
    return found


def text() -> str:
    """The file's."""
    return json.dumps(generate(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="ascii")
