"""The frames by which a pod announces its addresses."""

from __future__ import annotations

import socket
import struct
from socket import AF_INET, AF_INET6, inet_pton

from hypothesis import given

from cni_repair.network.reachability import announce
from tests.unit import strategies as our
from tests.unit.samples import ADDRESS_6, LINK
from tests.unit.wire import (
    raw_mac,
)


def internet_sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


def test_gratuitous_arp() -> None:
    mac, own = raw_mac(LINK.mac), inet_pton(AF_INET, "10.0.0.9")
    frame = announce.gratuitous_arp(mac, "10.0.0.9")
    assert frame[:14] == b"\xff" * 6 + mac + b"\x08\x06"
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert frame[22:] == mac + own + bytes(6) + own


@given(our.ips(6), our.macs)
def test_unsolicited_advertisement(own: str, mac: str) -> None:
    frame = announce.unsolicited_na(raw_mac(mac), own)
    packet, message = frame[14:54], frame[54:]
    assert frame[:14] == bytes.fromhex("333300000001") + raw_mac(mac) + b"\x86\xdd"
    assert struct.unpack("!HBB", packet[4:8]) == (len(message), socket.IPPROTO_ICMPV6, 255)
    assert packet[8:40] == inet_pton(AF_INET6, own) + inet_pton(AF_INET6, "ff02::1")
    assert (message[0], message[4], message[8:24]) == (136, 0x20, inet_pton(AF_INET6, own))
    assert message[24:] == b"\x02\x01" + raw_mac(mac)
    pseudo_header = packet[8:40] + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
    assert internet_sum(pseudo_header + message) == 0xFFFF


def test_sample_address_is_announced() -> None:
    assert announce.unsolicited_na(raw_mac(LINK.mac), ADDRESS_6.address)
