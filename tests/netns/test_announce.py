"""A repaired pod tells the network where it is: seen at the other end of the wire."""

from __future__ import annotations

import errno
import json
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from integration.driver.wire import checksum
from tests.netns.rig import (
    HANG_SECONDS,
    PATIENT,
    Attachment,
    Rig,
    entry_of,
    eventually,
    options,
)

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
ARP, IPV6 = 0x0806, 0x86DD


class Wire:
    """All frames that arrive at the gateway."""

    def __init__(self, rig: Rig) -> None:
        def listen() -> socket.socket:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            opened.bind(("tor0", ETH_P_ALL))
            opened.settimeout(0.1)
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)  # of many pods at once
            return opened

        self._socket = rig.inside("tor", listen)
        self.frames: list[bytes] = []

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> list[bytes]:
        """What came so far, and will come in the next tenth of a second."""
        while True:
            try:
                frame, (_, _, kind, _, _) = self._socket.recvfrom(2048)
            except TimeoutError:
                return self.frames
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # told once, when the link goes down
                    raise
            else:
                if kind != socket.PACKET_OUTGOING:
                    self.frames.append(frame)


def mac_of(was: Attachment) -> bytes:
    return bytes.fromhex(str(was.state["addr"][0]["address"]).replace(":", ""))


def announced_by_arp(frames: list[bytes], mac: bytes) -> set[str]:
    """Addresses in well-formed ARP announcements (RFC 5227, 3) of a MAC."""
    found = set()
    for frame in frames:
        destination, source, kind = struct.unpack_from("!6s6sH", frame)
        if source != mac or kind != ARP:
            continue
        hardware, protocol, hlen, plen, operation = struct.unpack_from("!HHBBH", frame, 14)
        sender_mac, sender, _, target = struct.unpack_from("!6s4s6s4s", frame, 22)
        if sender != target:
            continue
        assert (hardware, protocol, hlen, plen) == (1, 0x0800, 6, 4)
        assert operation in (1, 2)
        assert destination == b"\xff" * 6
        assert sender_mac == mac
        found.add(str(IPv4Address(sender)))
    return found


def announced_of(wire: Wire, was: Attachment) -> set[str]:
    """The same, as soon as there are any: a frame may be on its way when its sender has ended."""
    return eventually(lambda: announced_by_arp(wire.read(), mac_of(was)), "an announcement")


def announced_by_na(frames: list[bytes], mac: bytes) -> set[str]:
    """Addresses in well-formed unsolicited advertisements (RFC 4861, 7.2.6) of a MAC."""
    found = set()
    for frame in frames:
        destination, source, kind = struct.unpack_from("!6s6sH", frame)
        if source != mac or kind != IPV6 or frame[20] != 58 or frame[54] != 136:
            continue
        first, length, _, hops = struct.unpack_from("!IHBB", frame, 14)
        sender, to, body = frame[22:38], frame[38:54], frame[54:]
        assert first >> 28 == 6
        assert length == len(body) == 32
        assert hops == 255  # a router would have lowered it: receivers check
        assert IPv6Address(to) == IPv6Address("ff02::1")
        assert destination == bytes.fromhex("333300000001")
        (flags,) = struct.unpack_from("!I", body, 4)
        assert flags >> 29 == 0b001  # override, not solicited, no router
        assert body[8:24] == sender
        assert body[24:26] == b"\x02\x01"  # target link-layer address, 8 bytes
        assert body[26:32] == mac
        assert checksum(sender + to + struct.pack("!II", length, 58) + body) == 0
        found.add(str(IPv6Address(sender)))
    return found


def test_every_address_of_ipam_is_announced(rig: Rig) -> None:
    conf = rig.conf()
    conf["ipam"]["ranges"].append([{"subnet": "198.51.100.0/24"}])
    was = rig.attach("pod1", conf)
    wanted = {entry["address"].partition("/")[0] for entry in was.result["ips"]}
    assert len(wanted) == 2
    rig.reload()
    with Wire(rig) as wire:
        rig.plugin("REPAIR", was.pod).ok()
        eventually(lambda: announced_by_arp(wire.read(), mac_of(was)) >= wanted, "announcements")


@pytest.mark.parametrize("recorded_by", ["CHECK", "snapshot", "snapshot, not armed"])
def test_what_a_pod_gave_itself_is_restored_unannounced(rig: Rig, recorded_by: str) -> None:
    """Its gateway's address, say, before its record is brought up to date."""
    was = rig.attach("pod1")
    rig.ip("addr add 10.9.0.1/32 dev eth0", was.pod)
    if recorded_by == "CHECK":
        rig.plugin("CHECK", was.pod, {**rig.conf(), "prevResult": was.result}).ok()
    else:
        assert rig.cli("snapshot", *options(rig)).status == 0
    if recorded_by == "snapshot, not armed":
        (index,) = (rig.base / "run").glob("armed-*")
        index.unlink()
    rig.reload()
    planned = rig.cli("plan", *options(rig)).out
    with Wire(rig) as wire:
        entry = entry_of(rig.plugin("REPAIR").report(0), was.pod)
        assert announced_of(wire, was) == {was.address}
    assert "10.9.0.1/32" in rig.ip("-br addr show eth0", was.pod)
    (note,) = entry["notes"]
    assert note.startswith("restored, but not announced: 10.9.0.1: ")
    assert note in planned
    assert rig.cli("status", *options(rig)).out == "1 attachment: 1 healthy\n"


def test_what_an_operator_accepted_is_announced(rig: Rig) -> None:
    """For as long as the pod has it."""
    was = rig.attach("pod1")
    rig.ip("addr add 10.9.0.200/24 dev eth0", was.pod)
    rig.ip("addr add 198.51.100.7/24 dev eth0", was.pod)
    assert rig.cli("snapshot", "--accept", "shop/pod1", *options(rig)).status == 0
    rig.ip("addr del 198.51.100.7/24 dev eth0", was.pod)
    assert rig.cli("snapshot", "--accept", "shop/pod1", *options(rig)).status == 0
    rig.ip("addr add 198.51.100.7/24 dev eth0", was.pod)
    assert rig.cli("snapshot", *options(rig)).status == 0
    rig.reload()
    with Wire(rig) as wire:
        entry = entry_of(rig.plugin("REPAIR").report(0), was.pod)
        eventually(
            lambda: len(announced_by_arp(wire.read(), mac_of(was))) >= 2, "both announcements"
        )
        assert announced_by_arp(wire.frames, mac_of(was)) == {was.address, "10.9.0.200"}
    assert [note for note in entry["notes"] if "not announced: 198.51.100.7: " in note]


@pytest.mark.parametrize("missing", ["10.9.0.1/32", ""], ids=["address", "route"])
def test_only_what_is_restored_is_told(rig: Rig, missing: str) -> None:
    was = rig.attach("pod1")
    rig.ip("addr add 10.9.0.1/32 dev eth0", was.pod)
    assert rig.cli("snapshot", *options(rig)).status == 0
    rig.ip(f"addr del {missing} dev eth0" if missing else "route del default", was.pod)
    entry = entry_of(rig.plugin("REPAIR").report(0), was.pod)
    assert (entry["notes"] != []) is bool(missing)


@pytest.mark.slow
def test_ipv6_addresses_are_announced_once_they_may_be_used(rig: Rig) -> None:
    conf = rig.conf(v6=True)
    was = rig.attach("pod1", conf, ipv6=True)
    wanted = {str(entry["address"]).partition("/")[0] for entry in was.result["ips"]}
    rig.reload()
    with Wire(rig) as wire:
        rig.plugin("REPAIR", was.pod, conf).ok()
        eventually(
            lambda: (
                announced_by_arp(wire.read(), mac_of(was))
                | announced_by_na(wire.frames, mac_of(was))
                >= wanted
            ),
            "announcements",
        )


def test_healthy_pods_say_nothing(rig: Rig) -> None:
    was, lost = rig.attach("pod1"), rig.attach("pod2")
    rig.ip("link del eth0", lost.pod)
    with Wire(rig) as wire:
        rig.plugin("REPAIR").report(0)
        eventually(lambda: announced_by_arp(wire.read(), mac_of(lost)), "the other's announcement")
        assert not [frame for frame in wire.frames if frame[6:12] == mac_of(was)]


def test_announced_when_the_carrier_comes(rig: Rig) -> None:
    """After a driver's return the link takes a second; frames sent before would be lost."""
    was = rig.attach("pod1")
    rig.reload()
    rig.ip("link set tor0 down", "tor")
    eventually(lambda: "NO-CARRIER" in rig.links()["eth0"]["flags"], "the loss of carrier")
    stdin = json.dumps(rig.conf())
    with (
        Wire(rig) as wire,
        rig.started(
            rig.launcher(PATIENT), stdin=stdin, env=rig.environ("REPAIR", was.pod)
        ) as process,
    ):
        eventually(lambda: was.address in rig.ip("addr", was.pod), "the pod's address")
        assert process.poll() is None  # it waits
        assert announced_by_arp(wire.read(), mac_of(was)) == set()
        rig.ip("link set tor0 up", "tor")
        out, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, (out, err)
        assert announced_of(wire, was) == {was.address}
    assert rig.state(was.pod) == was.state
