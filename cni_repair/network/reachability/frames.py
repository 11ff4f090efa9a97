"""ARP and neighbour discovery as they are on the wire. Pure."""

from __future__ import annotations

import struct

from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop, inet_pton

ETH_ARP, ETH_IPV6 = 0x0806, 0x86DD
_EVERYBODY = b"\xff" * 6
_ETHERNET_BYTES = 14

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_START = (1, 0x0800, 6, 4)  # Ethernet, IPv4, and the lengths of their addresses
_ARP_REQUEST = 1
ARP_SENDER_ADDRESS = _ETHERNET_BYTES + 14  # its offset in a frame

ICMPV6 = 58
_IPV6_BYTES = 40
NEXT_HEADER = _ETHERNET_BYTES + 6  # its offset in a frame, as the next ones are
IPV6_SOURCE = _ETHERNET_BYTES + 8
ICMPV6_TYPE = _ETHERNET_BYTES + _IPV6_BYTES
SOLICITATION, ADVERTISEMENT = 135, 136
_OVERRIDE = 0x20000000
_SOURCE_MAC, _TARGET_MAC = 1, 2  # options of neighbour discovery: type, length in 8 bytes, MAC
_ALL_NODES = inet_pton(AF_INET6, "ff02::1")
ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
HOP_LIMIT = 255  # what a router has passed on has less: it is no neighbour's (RFC 4861, 7.1)


# --- ARP ------------------------------------------------------------------------------------------


def gratuitous_arp(mac: bytes, address: str) -> bytes:
    """An ARP announcement (RFC 5227, section 3): a request for one's own address."""
    own = inet_pton(AF_INET, address)
    return _arp_request(mac, own, own)


def arp_probe(mac: bytes, address: str) -> bytes:
    """A question to everybody that does not say who has the address (RFC 5227, 2.1.1)."""
    return _arp_request(mac, bytes(4), inet_pton(AF_INET, address))


def _arp_request(mac: bytes, sender: bytes, wanted: bytes) -> bytes:
    header = _EVERYBODY + mac + struct.pack("!H", ETH_ARP)
    return header + _ARP.pack(*_ARP_START, _ARP_REQUEST, mac, sender, bytes(6), wanted)


def arp_claim(frame: bytes) -> tuple[str, bytes] | None:
    """(address, MAC) of the sender of an ARP frame: a request claims the address like a reply."""
    if len(frame) < _ETHERNET_BYTES + _ARP.size:
        return None
    *start, _, mac, address, _, _ = _ARP.unpack_from(frame, _ETHERNET_BYTES)
    return (inet_ntop(AF_INET, address), mac) if tuple(start) == _ARP_START else None


# --- neighbour discovery --------------------------------------------------------------------------


def unsolicited_na(mac: bytes, address: str) -> bytes:
    """An unsolicited neighbour advertisement to all nodes (RFC 4861, section 7.2.6)."""
    own = inet_pton(AF_INET6, address)
    body = _discovery(ADVERTISEMENT, _OVERRIDE, own, _TARGET_MAC, mac)
    return _ipv6_frame(mac, own, _ALL_NODES, body)


def dad_solicitation(mac: bytes, address: str) -> bytes:
    """A question whether anybody has the address, of one who has none (RFC 4862, 5.4.2): whoever
    has it answers to all nodes."""
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + inet_pton(AF_INET6, address)
    return _ipv6_frame(mac, bytes(16), inet_pton(AF_INET6, solicited_node(address)), body)


def _ipv6_frame(mac: bytes, source: bytes, group: bytes, body: bytes) -> bytes:
    """A frame to a multicast group (RFC 2464, 7) with a message of ICMPv6."""
    pseudo = source + group + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    ip_header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, HOP_LIMIT) + source + group
    return b"\x33\x33" + group[12:] + mac + struct.pack("!H", ETH_IPV6) + ip_header + body


def solicitation(mac: bytes, address: str) -> bytes:
    """A neighbour solicitation (RFC 4861, 4.3); the kernel fills in the checksum."""
    return _discovery(SOLICITATION, 0, inet_pton(AF_INET6, address), _SOURCE_MAC, mac)


def _discovery(kind: int, flags: int, address: bytes, option: int, mac: bytes) -> bytes:
    return struct.pack("!BBHI", kind, 0, 0, flags) + address + bytes([option, 1]) + mac


def solicited_node(address: str) -> str:
    """The multicast group of all who hold an address like this (RFC 4291, 2.7.1)."""
    group = inet_pton(AF_INET6, "ff02::1:ff00:0")[:13] + inet_pton(AF_INET6, address)[13:]
    return inet_ntop(AF_INET6, group)


def advertised(packet: bytes) -> tuple[str, bytes] | None:
    """(address, MAC) of a neighbour advertisement (RFC 4861, 4.4) that tells the MAC."""
    if len(packet) < 24 or packet[0] != ADVERTISEMENT:
        return None
    offset = 24
    while offset + 8 <= len(packet) and packet[offset + 1]:
        if tuple(packet[offset : offset + 2]) == (_TARGET_MAC, 1):
            return inet_ntop(AF_INET6, packet[8:24]), packet[offset + 2 : offset + 8]
        offset += 8 * packet[offset + 1]
    return None


def discovery_claim(frame: bytes) -> tuple[str, bytes] | None:
    """(address, MAC) of who has an address, and says so, or wants it: who asks whether anybody has
    it (RFC 4862, 5.4.3). What a router has passed on does not count (RFC 4861, 7.1)."""
    ip_header = frame[_ETHERNET_BYTES : _ETHERNET_BYTES + _IPV6_BYTES]
    if len(ip_header) < _IPV6_BYTES or tuple(ip_header[6:8]) != (ICMPV6, HOP_LIMIT):
        return None
    packet = frame[_ETHERNET_BYTES + _IPV6_BYTES :]
    if len(packet) >= 24 and packet[0] == SOLICITATION and ip_header[8:24] == bytes(16):
        return inet_ntop(AF_INET6, packet[8:24]), frame[6:12]
    return advertised(packet)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
