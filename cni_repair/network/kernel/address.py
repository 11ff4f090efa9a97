"""The addresses of a pod's interface: somebody's, and those that the kernel makes by itself."""

from __future__ import annotations

import os
import struct

from cni_repair.base.frozen import frozen
from cni_repair.base.kinds import integer, ip_address, one_of, text
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop, inet_pton
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.table import (
    ALWAYS,
    NEVER,
    SCOPES,
    UINT8,
    UINT32,
    Field,
    Table,
)
from cni_repair.network.model import FOREVER, RT_SCOPE_LINK, RTPROT_KERNEL, Address, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ADDRESSES = 1024

# include/uapi/linux/if_addr.h
_TEMPORARY, IFA_F_NODAD, _DADFAILED, _TENTATIVE, _PERMANENT = 0x01, 0x02, 0x08, 0x40, 0x80
_NOPREFIXROUTE, IFA_F_MCAUTOJOIN, _STABLE_PRIVACY = 0x200, 0x400, 0x800
# What the kernel reports but nobody configures: secondary/temporary (derived from the order),
# optimistic, dadfailed, deprecated (derived from the lifetime), tentative, permanent (likewise),
# and how an address of its own was made.
_DERIVED = _TEMPORARY | 0x04 | _DADFAILED | 0x20 | _TENTATIVE | _PERMANENT | _STABLE_PRIVACY
_FLAGS = {
    IFA_F_NODAD: "nodad", 0x10: "home", 0x100: "mngtmpaddr", _NOPREFIXROUTE: "noprefixroute",
    IFA_F_MCAUTOJOIN: "autojoin",
}  # fmt: skip
IFAPROT_KERNEL_LL = 3  # of a link-local address that the kernel made
_KERNELS_OWN = {1, 2, IFAPROT_KERNEL_LL}  # IFAPROT_KERNEL_LO, _RA
_METRIC_6 = 256  # IP6_RT_PRIO_ADDRCONF
_CACHEINFO = struct.Struct("=II")  # ifa_prefered, ifa_valid of struct ifa_cacheinfo


def _flag_words(flags: int) -> str:
    return " ".join(word for bit, word in _FLAGS.items() if flags & bit)


_IN_HEADER = "struct ifaddrmsg"
_LIFETIME = {"wire": "both lifetimes in IFA_CACHEINFO", "word": "both if either ends"}
TABLE = Table(
    Address,
    Field(
        "family", one_of(4, 6), compared=ALWAYS, because={"wire": _IN_HEADER, "word": "ip, ip -6"}
    ),
    Field(
        "address",
        ip_address,
        compared=ALWAYS,
        of_family=True,
        because={"wire": "IFA_LOCAL, or IFA_ADDRESS alone", "word": "with its prefix, or peer"},
    ),
    Field("prefix", integer(0, 128), because={"wire": _IN_HEADER, "word": "after the address"}),
    Field(
        "peer",
        ip_address,
        of_family=True,
        because={"wire": "IFA_ADDRESS, where that is not the address", "word": "with the prefix"},
    ),
    Field("broadcast", ip_address, rt.IFA_BROADCAST, nl.IP, "broadcast {}", of_family=True),
    Field("label", text, rt.IFA_LABEL, nl.TEXT, because={"word": "unless it is the link's name"}),
    Field(
        "scope",
        UINT8,
        word=lambda scope: f"scope {SCOPES.get(scope, scope)}",
        because={"wire": _IN_HEADER},
    ),
    Field("valid", UINT32, because=_LIFETIME),
    Field("preferred", UINT32, because=_LIFETIME),
    Field("metric", UINT32, rt.IFA_RT_PRIORITY, nl.U32, "metric {}"),
    Field(
        "proto",
        UINT8,
        rt.IFA_PROTO,
        nl.U8,
        compared=NEVER,
        because={"word": "none before iproute2 6.3", "compared": "it does nothing"},
    ),
    Field(
        "flags",
        UINT32,
        rt.IFA_FLAGS,
        nl.Codec(lambda raw: nl.u32_of(raw) & ~_DERIVED, nl.u32),
        _flag_words,
    ),
)


# --- writing --------------------------------------------------------------------------------------


def encode(address: Address, ifindex: int) -> bytes:
    """What RTM_NEWADDR says of an address."""
    local, far = _ends(address)
    attributes = local + far + TABLE.encode(address)
    if address.valid != FOREVER or address.preferred != FOREVER:
        lifetimes = struct.pack("=IIII", address.preferred, address.valid, 0, 0)
        attributes += nl.attribute(rt.IFA_CACHEINFO, lifetimes)
    family = nl.NUMBERS[address.family]
    return nl.address_body(
        family, address.prefix, address.flags, address.scope, ifindex, attributes
    )


def encode_key(address: Address, ifindex: int) -> bytes:
    """What RTM_DELADDR tells an address apart by."""
    local, far = _ends(address)
    return nl.address_body(nl.NUMBERS[address.family], address.prefix, 0, 0, ifindex, local + far)


def _ends(address: Address) -> tuple[bytes, bytes]:
    local = nl.ip(rt.IFA_LOCAL, address.address)
    return local, nl.ip(rt.IFA_ADDRESS, address.peer or address.address)


# --- reading --------------------------------------------------------------------------------------


@frozen
class Addresses:
    """What a link has."""

    configured: tuple[Address, ...] = ()
    by_kernel: tuple[Address, ...] = ()  # link-local, or from router advertisements
    tentative: tuple[str, ...] = ()  # those that duplicate detection still looks at
    dadfailed: tuple[str, ...] = ()  # … and those that it found taken
    stable_private: tuple[str, ...] = ()  # of the kernel's own those of RFC 7217's kind


def addresses_request(ifindex: int) -> nl.Message:
    """Asks for a dump of a link's addresses."""
    return nl.Message(rt.RTM_GETADDR, 0, nl.address_body(0, 0, 0, 0, ifindex, b""))


@nl.decoder
def addresses_in(bodies: Iterable[bytes], ifindex: int, mac: str) -> Addresses:
    """Those of a link, of a dump; its MAC tells on older kernels which one the kernel made of
    it."""
    configured: list[Address] = []
    by_kernel: list[Address] = []
    tentative, dadfailed = [], []
    stable_private = []
    for body in bodies:
        family, prefix, scope, link, attributes = nl.unpack_address(body)
        if link != ifindex or family not in nl.FAMILIES:
            continue
        flags = nl.u32_of(attributes[rt.IFA_FLAGS])
        if attributes.get(rt.IFA_PROTO, b"\0")[0] > max(_KERNELS_OWN):
            # A daemon's own, that it may have given up by the time of a repair, to another host
            # even (keepalived's virtual addresses).
            continue
        if family == AF_INET6 and flags & IFA_F_MCAUTOJOIN:
            # The kernel's own socket stays in the group of a link that went, and can neither join
            # it again on the same index nor be made to leave (ipv6_mc_config).
            continue
        address = decode(family, prefix, scope, attributes)
        if flags & _DADFAILED:
            dadfailed.append(address.address)
        elif flags & _TENTATIVE:
            tentative.append(address.address)
        made_by_kernel = _made_by_kernel(address, flags, mac)
        (by_kernel if made_by_kernel else configured).append(address)
        if made_by_kernel and scope == RT_SCOPE_LINK and flags & _STABLE_PRIVACY:
            stable_private.append(address.address)
    return Addresses(
        tuple(configured),
        tuple(by_kernel),
        tuple(tentative),
        tuple(dadfailed),
        tuple(stable_private),
    )


def decode(family: int, prefix: int, scope: int, attributes: dict[int, bytes]) -> Address:
    """The address of an RTM_NEWADDR; the first three stand in its header."""
    values = TABLE.decode(attributes)
    # The kernel leaves out an IPv4 peer that is 0.0.0.0 (inet_fill_ifaddr).
    far = attributes.get(rt.IFA_ADDRESS) or bytes(16 if family == AF_INET6 else 4)
    local = attributes.get(rt.IFA_LOCAL, far)
    values["family"] = nl.FAMILIES[family]
    values["address"] = inet_ntop(family, local)
    values["prefix"] = prefix
    values["scope"] = scope
    if far != local:
        values["peer"] = inet_ntop(family, far)
    values["preferred"], values["valid"] = _CACHEINFO.unpack_from(attributes[rt.IFA_CACHEINFO])
    return Address(**values)


def link_local_of(mac: str) -> str:
    """The EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    octets = bytearray(nl.raw_mac(mac))
    if len(octets) != 6:
        return ""
    octets[0] ^= 2
    eui = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return inet_ntop(AF_INET6, b"\xfe\x80" + bytes(6) + eui)


def _made_by_kernel(address: Address, flags: int, mac: str) -> bool:
    """Whether the kernel makes this address by itself on a link of this MAC: nothing to restore.

    IFA_PROTO says so since 5.18; before that, the derived link-local address and everything that
    router advertisements made (never permanent) are told by their looks.
    """
    if address.family == 4:
        return False
    if address.proto in _KERNELS_OWN or flags & _TEMPORARY:
        return True  # (A temporary one has no IFA_PROTO, and nobody else can make one.)
    if _tells_origin():
        return False
    return address.address == link_local_of(mac) or not flags & _PERMANENT


_origins: list[bool] = []


def _tells_origin() -> bool:
    """Whether this kernel has IFA_PROTO: of an address that somebody configured it says nothing,
    so its absence cannot be seen."""
    if not _origins:
        major, minor, *_ = (os.uname().release + ".0").split(".")
        digits = "".join(one for one in minor if one.isdigit())
        _origins.append((int(major), int(digits or 0)) >= (5, 18))
    return _origins[0]


# --- prefixes, and the routes that come with them -------------------------------------------------


def network_of(address: str, length: int) -> str:
    """The prefix of that length which holds the address: 10.9.0.0/24 for 10.9.0.5."""
    family = AF_INET6 if ":" in address else AF_INET
    raw = inet_pton(family, address)
    host_bits = 8 * len(raw) - length
    number = int.from_bytes(raw, "big") >> host_bits << host_bits
    return f"{inet_ntop(family, number.to_bytes(len(raw), 'big'))}/{length}"


def prefix_routes(addresses: Iterable[Address]) -> tuple[Route, ...]:
    """The routes that come with an interface's addresses by themselves.

    Addresses of one prefix share one: that of the first, the primary.
    """
    routes: dict[str, Route] = {}
    for address in addresses:
        route = _prefix_route(address)
        if route is not None:
            routes.setdefault(route.dst, route)
    return tuple(routes.values())


def _prefix_route(address: Address) -> Route | None:
    """fib_add_ifaddr(), inet6_addr_add()"""
    if address.flags & _NOPREFIXROUTE:
        return None
    dst = network_of(address.peer or address.address, address.prefix)
    if address.family == 6:
        made = Route(6, dst, metric=address.metric or _METRIC_6, protocol=RTPROT_KERNEL)
        return None if address.peer else made
    if dst == f"{address.address}/32" or dst.startswith("0."):
        return None
    return Route(
        4,
        dst,
        metric=address.metric,
        scope=RT_SCOPE_LINK,
        protocol=RTPROT_KERNEL,
        prefsrc=address.address,
    )
