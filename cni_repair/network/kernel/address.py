"""The addresses of a pod's interface: somebody's, and those that the kernel makes by itself."""

from __future__ import annotations

import os
import struct

from cni_repair.base.frozen import frozen
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop
from cni_repair.netlink import codec as nl
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.model import (
    IFA_DERIVED,
    IFA_F_DADFAILED,
    IFA_F_MCAUTOJOIN,
    IFA_F_PERMANENT,
    IFA_F_STABLE_PRIVACY,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
    RT_SCOPE_LINK,
    Address,
)
from cni_repair.network.planning.linklocal import link_local_of

MAX_ADDRESSES = 1024

# IFAPROT_KERNEL_LO, _RA, _LL, include/uapi/linux/if_addr.h
_KERNELS_OWN = {1, 2, 3}


@frozen
class Addresses:
    """What a link has."""

    configured: tuple[Address, ...] = ()
    by_kernel: tuple[Address, ...] = ()  # link-local, or from router advertisements
    tentative: tuple[str, ...] = ()  # those that duplicate detection still looks at
    dadfailed: tuple[str, ...] = ()  # … and those that it found taken
    stable_private: tuple[str, ...] = ()  # of the kernel's own those of RFC 7217's kind


def read_addresses(rtnl: Rtnetlink, ifindex: int, mac: str) -> Addresses:
    """Those of a link; its MAC tells on older kernels which one the kernel made of it."""
    request = nl.Message(nl.RTM_GETADDR, 0, nl.address_body(0, 0, 0, 0, ifindex, b""))
    configured: list[Address] = []
    by_kernel: list[Address] = []
    tentative, dadfailed = [], []
    stable_private = []
    for body in rtnl.dump(request, MAX_ADDRESSES, "addresses"):
        family, prefix, scope, link, attributes = nl.unpack_address(body)
        if link != ifindex or family not in nl.FAMILIES:
            continue
        flags = nl.u32_of(attributes[nl.IFA_FLAGS])
        if attributes.get(nl.IFA_PROTO, b"\0")[0] > max(_KERNELS_OWN):
            # A daemon's own, that it may have given up by the time of a repair, to another host
            # even (keepalived's virtual addresses).
            continue
        if family == AF_INET6 and flags & IFA_F_MCAUTOJOIN:
            # The kernel's own socket stays in the group of a link that went, and can neither join
            # it again on the same index nor be made to leave (ipv6_mc_config).
            continue
        address = _address(family, prefix, scope, flags, attributes)
        if flags & IFA_F_DADFAILED:
            dadfailed.append(address.address)
        elif flags & IFA_F_TENTATIVE:
            tentative.append(address.address)
        made_by_kernel = _made_by_kernel(address, flags, mac)
        (by_kernel if made_by_kernel else configured).append(address)
        if made_by_kernel and scope == RT_SCOPE_LINK and flags & IFA_F_STABLE_PRIVACY:
            stable_private.append(address.address)
    return Addresses(
        tuple(configured),
        tuple(by_kernel),
        tuple(tentative),
        tuple(dadfailed),
        tuple(stable_private),
    )


def _address(
    family: int, prefix: int, scope: int, flags: int, attributes: dict[int, bytes]
) -> Address:
    # The kernel leaves out an IPv4 peer that is 0.0.0.0 (inet_fill_ifaddr).
    any_address = bytes(4 if family == AF_INET else 16)
    far = attributes.get(nl.IFA_ADDRESS, any_address)
    local = attributes.get(nl.IFA_LOCAL, far)
    broadcast = attributes.get(nl.IFA_BROADCAST)
    label = attributes.get(nl.IFA_LABEL)
    preferred, valid = struct.unpack_from("=II", attributes[nl.IFA_CACHEINFO])
    return Address(
        family=nl.FAMILIES[family],
        address=inet_ntop(family, local),
        prefix=prefix,
        broadcast=inet_ntop(family, broadcast) if broadcast else None,
        scope=scope,
        label=nl.string_of(label) if label else None,
        flags=flags & ~IFA_DERIVED,
        valid=valid,
        preferred=preferred,
        peer=inet_ntop(family, far) if far != local else None,
        metric=nl.u32_of(attributes.get(nl.IFA_RT_PRIORITY, bytes(4))),
        proto=attributes.get(nl.IFA_PROTO, b"\0")[0],
    )


def _made_by_kernel(address: Address, flags: int, mac: str) -> bool:
    """Whether the kernel makes this address by itself on a link of this MAC: nothing to restore.

    IFA_PROTO says so since 5.18; before that, the derived link-local address and everything that
    router advertisements made (never permanent) are told by their looks.
    """
    if address.family == 4:
        return False
    if address.proto in _KERNELS_OWN or flags & IFA_F_TEMPORARY:
        return True  # (A temporary one has no IFA_PROTO, and nobody else can make one.)
    if _tells_origin():
        return False
    return address.address == link_local_of(mac) or not flags & IFA_F_PERMANENT


_origins: list[bool] = []


def _tells_origin() -> bool:
    """Whether this kernel has IFA_PROTO: of an address that somebody configured it says nothing,
    so its absence cannot be seen."""
    if not _origins:
        major, minor, *_ = (os.uname().release + ".0").split(".")
        digits = "".join(one for one in minor if one.isdigit())
        _origins.append((int(major), int(digits or 0)) >= (5, 18))
    return _origins[0]
