"""The checkpoint's published JSON Schema, made from its readers.

python3 -m cni_repair.checkpoint.generate_schema >cni_repair/checkpoint/schema/checkpoint.json
"""

from __future__ import annotations

import json
from typing import Any

from cni_repair.checkpoint.model import DOCUMENT, SCHEMA_VERSION

# What a key's name does not say, by its path: object (as in `$defs`; "" is the document) and key.
DESCRIPTIONS = {
    "checksum": "CRC-32 of the file's bytes with these eight digits as zeros",
    "pod": "K8S_POD_* of CNI_ARGS; empty where the runtime did not say",
    "attachedAt": "Unix time in milliseconds",
    "netns": "The pod's network namespace, and what tells it from another under the same path",
    "netconf": "The network configuration, secrets redacted",
    "result": "The delegate's Result, as it came",
    "link": "The pod's interface",
    "parents": "The master first, then what it stands on",
    "sysctls": "net/<family>/conf/<ifname>/<name>: those that differed from the"
    " namespace's default",
    "rules": "Policy rules that name the interface, begin at one of its addresses, or lead to a"
    " table of its routes; absent where there are none",
    "neighbours": "Permanent neighbours, and proxy entries (those without a mac); absent where"
    " there are none",
    "absentRoutes": "Routes that come with the addresses by themselves, and that somebody took"
    " away; absent where there are none",
    "nodeLinks": "What the node had of its own over the pod's masters, as CHECK, snapshot or adopt"
    " saw it; of several checkpoints the newest counts",
    "settled": "Taken after ADD (by CHECK, snapshot, adopt), when later plugins had done their"
    " work; absent: not",
    "addrGenMode": "The link-local addresses are among the addresses, as the kernel would make"
    " others: set this way of making them afterwards (IFLA_INET6_ADDR_GEN_MODE)",
    "lifetimesAt": "Seconds since boot, when the addresses had these lifetimes; absent: they are"
    " for ever",
    "minReader": "The least reader version that may repair by this record; absent: 1",
    "podLink.bcqueuelen": "macvlan's IFLA_MACVLAN_BC_QUEUE_LEN; absent where not known",
    "podLink.deviceFlags": "IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST, IFF_DYNAMIC;"
    " absent where not known",
    "vlan.egress": "a packet's priority, that of its frame",
    "vlan.ingress": "a frame's priority, that of its packet",
    "route.metrics": "pairs of RTAX_* and value",
    "route.src": "of IPv6: only for packets from this prefix",
    "route.hops": "the next hops of an IPv4 multipath route",
    "route.shared": "one of several next hops of an IPv6 multipath route",
    "route.expires": "seconds left, of IPv6",
    "rule.sport": "first and last",
    "rule.dport": "first and last",
    "rule.uidRange": "first and last",
    "rule.action": "FR_ACT_*: lookup, blackhole, unreachable, prohibit",
    "neighbour.flags": "NTF_EXT_LEARNED, NTF_ROUTER",
    "nodeLink.shim": "a link like the pods', over `master`; absent: this is a VLAN",
}


def schema() -> dict[str, Any]:
    """The schema of the document. It says nothing of keys that it does not name: they are kept."""
    defs: dict[str, Any] = {}
    document = _expanded(DOCUMENT, "", defs)
    document["properties"] |= {
        "schemaVersion": {"const": SCHEMA_VERSION},
        "checksum": {
            "description": DESCRIPTIONS["checksum"],
            "type": "string",
            "pattern": "^crc32:[0-9a-f]{8}$",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"cni-repair checkpoint, schemaVersion {SCHEMA_VERSION}",
        "description": "One attachment as ADD left it: what REPAIR makes again. Numbers are the"
        " kernel's own (flags, scopes, tables, protocols, lifetimes in seconds). Keys that are not"
        " named here are a newer version's: kept, and not used.",
        **document,
        "$defs": dict(sorted(defs.items())),
    }


def _schema_of(kind: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """A kind's schema where it is used: a reference, where it has a name."""
    if not kind.name:
        return _expanded(kind, "", defs)
    if kind.name not in defs:
        defs[kind.name] = {}  # held, should it come again inside itself
        defs[kind.name] = _expanded(kind, f"{kind.name}.", defs)
    return {"$ref": f"#/$defs/{kind.name}"}


def _expanded(kind: Any, path: str, defs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {word: _inside(part, defs) for word, part in kind.schema.items()}
    for key, part in found.get("properties", {}).items():
        if description := DESCRIPTIONS.get(path + key):
            found["properties"][key] = {"description": description, **part}
    return found


def _inside(part: Any, defs: dict[str, Any]) -> Any:
    if callable(part):
        return _schema_of(part, defs)
    if isinstance(part, dict):
        return {key: _inside(one, defs) for key, one in part.items()}
    if isinstance(part, (list, tuple)):
        return [_inside(one, defs) for one in part]
    return part


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
