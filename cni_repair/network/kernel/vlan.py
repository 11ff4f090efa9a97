"""VLAN devices of the node: what is their own (IFLA_INFO_DATA of kind vlan)."""

from __future__ import annotations

import struct

from cni_repair.base.kinds import integer, list_of, one_of, pair_of
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.table import AT_CREATION, NEVER, UINT32, Field, Table
from cni_repair.network.model import Vlan

_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}
_ALWAYS_KNOWN = 0xF  # VLAN_FLAG_REORDER_HDR, GVRP, LOOSE_BINDING, MVRP
_BRIDGE_BINDING = 0x10
_FLAGS = {0x2: "gvrp", 0x4: "loose_binding", 0x8: "mvrp", _BRIDGE_BINDING: "bridge_binding"}
_PAIR = struct.Struct("=II")  # struct ifla_vlan_qos_mapping, struct ifla_vlan_flags


def _flags(kind: int, flags: int) -> bytes:
    # Kernels before 5.6 refuse bridge_binding, even if it is to be off.
    return nl.attribute(kind, _PAIR.pack(flags, _ALWAYS_KNOWN | (flags & _BRIDGE_BINDING)))


def _flag_words(flags: int) -> str:
    words = [] if flags & 1 else ["reorder_hdr off"]
    return " ".join([*words, *(f"{word} on" for bit, word in _FLAGS.items() if flags & bit)])


def _map_of(raw: bytes) -> tuple[tuple[int, int], ...]:
    """Priorities by pairs; the kernel lists them in no particular order."""
    entries = (entry for kind, entry in nl.entries_of(raw) if kind == rt.IFLA_VLAN_QOS_MAPPING)
    return tuple(sorted(_PAIR.unpack(entry) for entry in entries))


def _map(kind: int, pairs: tuple[tuple[int, int], ...]) -> bytes:
    entries = [nl.attribute(rt.IFLA_VLAN_QOS_MAPPING, _PAIR.pack(*pair)) for pair in pairs]
    return nl.attribute(kind, b"".join(entries))


def _map_words(pairs: tuple[tuple[int, int], ...]) -> str:
    return " ".join(f"{first}:{second}" for first, second in pairs)


_MAP = list_of(pair_of(0, 0xFFFFFFFF))
_PRIORITIES = nl.Codec(_map_of, _map)
_LEFT_ALONE = {"compared": "a VLAN that is there is its owner's"}
TABLE = Table(
    Vlan,
    Field(
        "protocol",
        one_of(*_PROTOCOLS),
        rt.IFLA_VLAN_PROTOCOL,
        # In network order.
        nl.Codec(
            lambda raw: int.from_bytes(raw, "big"),
            lambda kind, value: nl.attribute(kind, value.to_bytes(2, "big")),
        ),
        lambda protocol: f"protocol {_PROTOCOLS.get(protocol, hex(protocol))}",
        always_sent=True,
        set_=AT_CREATION,
        because={"compared": "another one is another VLAN"},
        compared=NEVER,
    ),
    Field(
        "id",
        integer(1, 4094),
        rt.IFLA_VLAN_ID,
        nl.U16,
        "id {}",
        set_=AT_CREATION,
        compared=NEVER,
        because={"compared": "another one is another VLAN"},
    ),
    Field(
        "flags",
        UINT32,
        rt.IFLA_VLAN_FLAGS,
        nl.Codec(nl.u32_of, _flags),
        _flag_words,
        always_sent=True,
        set_=AT_CREATION,
        compared=NEVER,
        because=_LEFT_ALONE,
    ),
    Field(
        "egress",
        _MAP,
        rt.IFLA_VLAN_EGRESS_QOS,
        _PRIORITIES,
        lambda pairs: f"egress-qos-map {_map_words(pairs)}",
        set_=AT_CREATION,
        compared=NEVER,
        because=_LEFT_ALONE,
    ),
    Field(
        "ingress",
        _MAP,
        rt.IFLA_VLAN_INGRESS_QOS,
        _PRIORITIES,
        lambda pairs: f"ingress-qos-map {_map_words(pairs)}",
        set_=AT_CREATION,
        compared=NEVER,
        because=_LEFT_ALONE,
    ),
)


def decode(data: dict[int, bytes]) -> Vlan:
    """The attributes of IFLA_INFO_DATA. The kernel leaves flags out where none is set
    (vlan_fill_info), although a new VLAN has one."""
    if rt.IFLA_VLAN_ID not in data:
        raise ValueError("a VLAN without its id")
    return Vlan(**{**TABLE.decode(data), **({} if rt.IFLA_VLAN_FLAGS in data else {"flags": 0})})


def encode(vlan: Vlan) -> bytes:
    """The attributes of IFLA_INFO_DATA."""
    return TABLE.encode(vlan)
