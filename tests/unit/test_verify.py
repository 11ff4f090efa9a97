"""What `verify` makes of what it hears: pure parts, and the wire's formats."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from cni_repair.base.errors import DAMAGED, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint.model import GatewayMac
from cni_repair.cli import advice
from cni_repair.cli.commands import verify as cli
from cni_repair.cli.coverage import WithoutRecord
from cni_repair.cli.scope import Scope
from cni_repair.netlink import codec as nl
from cni_repair.netlink.socket import Ack, Rtnetlink
from cni_repair.network.kernel.neighbour import NUD_PERMANENT
from cni_repair.network.model import Route
from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST
from cni_repair.network.reachability import duplicates, frames
from cni_repair.network.reachability import gateways as probe
from cni_repair.network.reachability.duplicates import Holder
from cni_repair.network.reachability.gateways import (
    ANSWERED,
    ASK_ALL,
    ASK_KNOWN,
    DOUBTFUL,
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_NONE,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    PERMANENT,
    REFUSED,
    SILENT,
    WAIT,
    Gateway,
    Neighbour,
    gateways_of,
    next_step,
)
from cni_repair.node.asking import Answers
from cni_repair.node.masters import MasterTroubles
from cni_repair.node.report import Report
from cni_repair.node.verify import (
    CONFLICT,
    NOT_VERIFIED,
    UNREACHABLE,
    PodHere,
    Verdict,
    document,
    judge,
)
from tests.unit.samples import ATTACHMENT, CHECKPOINT, KEY, NETNS
from tests.unit.wire import HEADER, read_by_pyroute2

MAC = "02:00:00:00:09:0a"
RAW_MAC = bytes.fromhex("02000000090a")
OWN = bytes.fromhex("6e921ab4fc34")

OK = Gateway("10.9.0.1", ANSWERED, MAC, 1.5)
QUIET = Gateway("10.9.0.1", SILENT)
QUIET6 = Gateway("fe80::1", SILENT)
KEPT = Gateway("10.9.0.1", PERMANENT, MAC)
FULL = Gateway("10.9.0.1", REFUSED, refusal="the table is full")
HELD = Holder("10.9.0.7", MAC)
BROKEN = CniError(DAMAGED, "it broke", "in two")


def report(state: str = HEALTHY, *findings: str, error: CniError | None = None) -> Report:
    return Report(KEY, CHECKPOINT, NETNS, state, findings, (), error)


# --- the neighbour table -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "asked", "step"),
    [
        (NUD_REACHABLE, False, ASK_KNOWN),  # from before the wire broke, for all we know
        (NUD_REACHABLE, True, ANSWERED),
        (NUD_STALE, False, ASK_KNOWN),
        (NUD_STALE, True, ASK_KNOWN),  # it asked us; whether it hears us is not known
        (NUD_DELAY, False, ASK_KNOWN),
        (NUD_INCOMPLETE, False, WAIT),
        (NUD_INCOMPLETE, True, WAIT),
        (NUD_PROBE, False, WAIT),
        (NUD_PROBE, True, WAIT),
        (NUD_NONE, False, ASK_ALL),
        (NUD_NONE, True, ASK_ALL),  # somebody flushed the table
        (NUD_FAILED, False, ASK_ALL),
        (NUD_FAILED, True, ASK_ALL),  # another machine may be the gateway now, or not yet forward
    ],
)
def test_next_step(state: int, asked: bool, step: str) -> None:
    assert next_step(Neighbour(state), asked) == step


@given(state=st.integers(0, 0xFF), asked=st.booleans())
def test_what_others_keep_is_left_alone(state: int, asked: bool) -> None:
    assert next_step(Neighbour(state, kept=True), asked) == PERMANENT


def neighbour_in(message: nl.Message) -> dict[str, Any]:
    read = read_by_pyroute2(ndmsg, message)
    assert read["header"]["type"] == message.type
    fields = {key: read[key] for key in ("family", "ifindex", "state", "flags")}
    return {**fields, **dict(read["attrs"]), "nlmsg": read["header"]["flags"]}


@pytest.mark.parametrize(
    ("address", "family"), [("10.9.0.1", socket.AF_INET), ("fe80::1", socket.AF_INET6)]
)
def test_questions_to_the_kernel(address: str, family: int) -> None:
    question = probe._Question(7, address)
    where = {"family": family, "ifindex": 7, "NDA_DST": address}
    plain = {**where, "state": NUD_NONE, "flags": 0, "nlmsg": 0}
    assert neighbour_in(question.look) == plain
    create, exclusive, use = 0x400, 0x200, 0x01
    assert question.take(Neighbour())
    assert neighbour_in(question.message) == {
        **plain, "flags": use, "nlmsg": create | exclusive,
    }  # fmt: skip
    assert question.take(Neighbour(NUD_FAILED))
    assert neighbour_in(question.message) == {**plain, "flags": use, "nlmsg": create}
    assert question.take(Neighbour(NUD_REACHABLE, MAC))
    assert neighbour_in(question.message) == {**plain, "state": NUD_PROBE}


@pytest.mark.parametrize(
    ("state", "flags", "ext", "kept"),
    [
        (NUD_REACHABLE, 0, None, False),
        (NUD_REACHABLE, 0x80, 0, False),  # NTF_ROUTER
        (NUD_PERMANENT, 0, None, True),
        (NUD_NOARP, 0, None, True),
        (NUD_REACHABLE, 0x10, None, True),  # NTF_EXT_LEARNED
        (NUD_STALE, 0, 1, True),  # NTF_EXT_MANAGED
    ],
)
def test_entry_as_the_kernel_shows_it(state: int, flags: int, ext: int | None, kept: bool) -> None:
    message = ndmsg()
    message["family"], message["ifindex"] = socket.AF_INET, 7
    message["state"], message["flags"] = state, flags
    message["attrs"] = [("NDA_DST", "10.9.0.1"), ("NDA_LLADDR", MAC)]
    message.encode()
    body = bytes(message.data)[HEADER:]
    if ext is not None:
        body += nl.u32(15, ext)  # NDA_FLAGS_EXT: pyroute2 does not know it
    assert probe._neighbour(body) == Neighbour(state, MAC, kept)


def test_entry_that_is_not_there() -> None:
    assert probe._neighbour(Ack(errno.ENOENT, "")) == Neighbour()
    with pytest.raises(CniError, match="has gone"):
        probe._neighbour(Ack(errno.ENODEV, ""))
    with pytest.raises(CniError, match="not supported"):
        probe._neighbour(Ack(errno.EOPNOTSUPP, ""))


@pytest.mark.parametrize(
    ("entry", "error", "refusal"),
    [
        (Neighbour(NUD_STALE), errno.EINVAL, None),  # it failed meanwhile
        (Neighbour(NUD_STALE), errno.ENOENT, None),
        (Neighbour(), errno.EEXIST, None),
        (Neighbour(), errno.EINVAL, "Invalid argument (IPv6 is disabled on this device)"),
        (Neighbour(), errno.ENOBUFS, "gc_thresh3"),
    ],
)
def test_question_that_the_kernel_refuses(
    entry: Neighbour, error: int, refusal: str | None
) -> None:
    question = probe._Question(7, "10.9.0.1")
    assert question.take(entry)
    question.sent(Ack(error, "IPv6 is disabled on this device"))
    if refusal is None:
        assert question.gateway is None
        # It was not asked: an entry that is good by now is still an old one.
        assert question.take(Neighbour(NUD_REACHABLE))
    else:
        assert question.gateway is not None
        assert question.gateway.state == REFUSED
        assert refusal in question.gateway.refusal


# --- who is asked --------------------------------------------------------------------------------


def test_gateways_are_those_of_the_recorded_unicast_routes() -> None:
    routes = (
        Route(4, "192.0.2.0/24", gateway="10.9.0.2"),
        Route(4, "10.9.0.0/24"),
        Route(4, "203.0.113.0/24", gateway="fe80::1"),
        Route(4, "198.51.100.0/24", gateway="10.9.0.9", type=7),  # unreachable
        Route(6, "::/0", gateway="fe80::1"),
        Route(4, "0.0.0.0/0", gateway="10.9.0.1", table=1000),
        Route(4, "0.0.0.0/0", gateway="10.9.0.1"),
    )
    found = gateways_of(replace(ATTACHMENT, routes=routes))
    assert found == ["fe80::1", "10.9.0.1", "10.9.0.2"]


# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "answers", "verdict", "words"),
    [
        (report(), Answers(gateways=(OK,)), HEALTHY, []),
        (report(), Answers(gateways=(OK, QUIET6)), UNREACHABLE, ["fe80::1 does not answer neigh"]),
        (report(), Answers(gateways=(KEPT, QUIET)), UNREACHABLE, ["10.9.0.1 does not answer ARP"]),
        (report(), Answers(gateways=(FULL,)), UNREACHABLE, ["cannot be asked: the table is full"]),
        (report(), Answers(gateways=(OK, KEPT)), NOT_VERIFIED, ["permanent neighbour entry"]),
        (report(), Answers(), NOT_VERIFIED, ["no gateway to ask"]),
        (report(), Answers(error=BROKEN), NOT_VERIFIED, ["it broke: in two"]),
        (report(), Answers(gateways=(OK,), error=BROKEN), NOT_VERIFIED, ["it broke: in two"]),
        (report(), Answers(gateways=(QUIET,), holders=(HELD,)), CONFLICT, [MAC, "not answer ARP"]),
        (report(LOST, "gone"), Answers(), LOST, ["gone"]),
        (report(DEGRADED, "route missing"), Answers(), DEGRADED, ["route missing"]),
        (report(DEGRADED, "cut"), Answers(carrier=False), UNREACHABLE, ["cut"]),
        (report(DEGRADED, "odd"), Answers(error=BROKEN), DEGRADED, ["odd; it broke: in two"]),
        (report(DEGRADED, error=BROKEN), Answers(), DEGRADED, ["it broke: in two"]),
        (
            report(DEGRADED, "taken"),
            Answers(dadfailed=("fd00::7",), carrier=False),
            CONFLICT,
            ["taken; the MAC of who else has fd00::7 is not known"],
        ),
    ],
)
def test_verdict(found: Report, answers: Answers, verdict: str, words: list[str]) -> None:
    judged = judge(found, answers, {})
    assert judged.verdict == verdict
    assert all(word in judged.reason for word in words), judged.reason
    assert bool(words) == bool(judged.reason)
    nobody_to_ask = verdict == NOT_VERIFIED and answers.error is None
    assert judged.passed == (verdict == HEALTHY or nobody_to_ask)


def test_holder_that_is_a_pod_of_this_node() -> None:
    here = PodHere("shop/cart-1", frozenset({"10.9.0.1"}))
    judged = judge(report(), Answers(gateways=(OK,), holders=(HELD,)), {MAC: here})
    assert judged.document()["conflicts"] == [
        {"address": "10.9.0.7", "mac": MAC, "pod": "shop/cart-1"}
    ]
    assert judged.reason == f"{MAC} (shop/cart-1 on this node) has address 10.9.0.7, too"


LIAR = "02:00:00:00:66:66"
ROUTER = PodHere("shop/router", frozenset({"10.9.0.1"}))
POD = {LIAR: PodHere("shop/liar", frozenset({"10.9.0.7"}))}


@pytest.mark.parametrize(
    ("answered", "others", "recorded", "pods", "words"),
    [
        (MAC, [], "", {}, ""),
        (MAC, [MAC], MAC, POD, ""),
        (LIAR, [], MAC, {}, f"is answered for by {LIAR}, it was {MAC}"),
        (LIAR, [], "", POD, f"is answered for by {LIAR} (shop/liar on this node)"),
        (LIAR, [], LIAR, POD, f"is answered for by {LIAR} (shop/liar on this node)"),
        (LIAR, [], LIAR, {LIAR: ROUTER}, ""),
        (MAC, [LIAR], MAC, POD, f"has 2 answers: {MAC}, {LIAR} (shop/liar on this node)"),
        (LIAR, [MAC, LIAR], "", {}, f"has 2 answers: {LIAR}, {MAC}"),
        (MAC, [f"02::{n}" for n in range(9)], MAC, {}, "has 10 answers: "),
    ],
    ids=[
        "alone", "as recorded", "another than recorded", "a pod here", "a pod that was recorded",
        "a pod by IPAM's word", "two", "two, nothing recorded", "many",
    ],
)  # fmt: skip
def test_who_answers_for_a_gateway(
    answered: str, others: list[str], recorded: str, pods: dict[str, PodHere], words: str
) -> None:
    """A pod that does makes others look healthy."""
    known = (GatewayMac("10.9.0.1", recorded),) if recorded else ()
    found = replace(report(), checkpoint=replace(CHECKPOINT, gateway_macs=known))
    holders = tuple(Holder("10.9.0.1", mac) for mac in others)
    answers = Answers(gateways=(replace(OK, mac=answered),), holders=holders)
    judged = judge(found, answers, pods)
    assert judged.verdict == (CONFLICT if words else HEALTHY)
    assert judged.gateways[0].state == (DOUBTFUL if words else ANSWERED)
    assert words in judged.reason and len(judged.reason) < 200
    assert judged.conflicts == ()


def test_answer_in_a_flood_of_them_is_doubtful() -> None:
    """Others may have answered, too, and not been read."""
    judged = judge(report(), Answers(gateways=(OK,), is_flooded=True), {})
    assert (judged.verdict, judged.gateways[0].state) == (CONFLICT, DOUBTFUL)


def test_holder_that_was_heard_is_not_unknown_as_well() -> None:
    answers = Answers(dadfailed=("fd00::7",), holders=(Holder("fd00::7", MAC),))
    judged = judge(report(DEGRADED, "taken"), answers, {})
    assert [one.mac for one in judged.conflicts] == [MAC]


# --- how it is shown -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _links_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is advised depends on the node's links, which are this machine's here."""
    with Rtnetlink() as rtnl:
        with_none = MasterTroubles(rtnl, [])
    monkeypatch.setattr(advice, "troubles_of", lambda reports: with_none)
    monkeypatch.setattr(cli, "troubles_of", lambda reports: with_none)


SCOPE = Scope("/checkpoints", "", None, (), False, " --checkpoint-dir /checkpoints")


def shown(capsys: pytest.CaptureFixture[str], verdicts: list[Verdict], everything: bool) -> str:
    cli.show(verdicts, SCOPE, everything, WithoutRecord())
    return capsys.readouterr().out


def test_healthy_attachments_are_only_counted(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = [judge(report(), Answers(gateways=(OK,)), {}), judge(report(), Answers(), {})]
    assert shown(capsys, verdicts, False) == (
        "2 attachments: 1 healthy, 1 configured-not-verified\n"
        "configured-not-verified: nobody to ask; --all says why\n"
    )
    assert shown(capsys, verdicts[:1], False) == "1 attachment: 1 healthy\n"
    assert shown(capsys, verdicts, True) == (
        "VERDICT                  POD          CONTAINER     IFNAME  GATEWAYS\n"
        "healthy                  shop/cart-0  06c9b8d0a800  eth0    10.9.0.1 2 ms\n"
        "configured-not-verified  shop/cart-0  06c9b8d0a800  eth0    -\n"
        "    no gateway to ask\n"
        "2 attachments: 1 healthy, 1 configured-not-verified\n"
    )
    assert shown(capsys, [], True).splitlines()[0] == (
        "no attachments in /checkpoints; cni-repair adopt --checkpoint-dir /checkpoints finds pods"
        " that were attached without it"
    )


def test_advice_is_for_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    unreachable = judge(report(), Answers(gateways=(QUIET,)), {})
    lost = judge(report(LOST, "eth0 is gone"), Answers(), {})
    text = shown(capsys, [unreachable], False)
    assert "\nunreachable: " in text
    assert "status" not in text and "conflict" not in text
    text = shown(capsys, [lost], False)
    assert "\nlost: " in text
    assert "\n  next: cni-repair repair --all --checkpoint-dir /checkpoints\n" in text
    assert "switch" not in text


def test_document_and_summary() -> None:
    silent = judge(report(), Answers(gateways=(OK, QUIET6)), {})
    broken = judge(report(DEGRADED, error=BROKEN), Answers(), {})
    assert silent.document() == {
        "containerID": KEY.container_id,
        "ifname": "eth0",
        "network": "podnet",
        "netns": NETNS,
        "pod": "shop/cart-0",
        "master": CHECKPOINT.attachment.parents[0].name,
        "addresses": [f"{a.address}/{a.prefix}" for a in CHECKPOINT.attachment.addresses],
        "state": "healthy",
        "verdict": "unreachable",
        "gateways": [
            {"address": "10.9.0.1", "state": "answered", "mac": MAC, "milliseconds": 1.5},
            {"address": "fe80::1", "state": "silent", "mac": "", "milliseconds": None},
        ],
        "findings": ["gateway fe80::1 does not answer neighbour solicitations"],
        "conflicts": [],
    }
    assert broken.document()["error"] == {"code": DAMAGED, "msg": "it broke", "details": "in two"}
    counts = document([silent, broken, judge(report(), Answers(), {})])["summary"]
    assert {key: count for key, count in counts.items() if count} == {
        "attachments": 3, "configuredNotVerified": 1, "unreachable": 1, "degraded": 1,
        "failed": 2,
    }  # fmt: skip


# --- the wire ------------------------------------------------------------------------------------

PROBE = bytes.fromhex(
    "ffffffffffff 6e921ab4fc34 08060001 0800 06 04 00016e921ab4fc34 00000000000000000000 0a090007"
)


def arp(operation: int, sender: bytes, address: str) -> bytes:
    start = PROBE[:20] + struct.pack("!H", operation)
    return start + sender + socket.inet_aton(address) + PROBE[32:]


def test_arp_probe() -> None:
    assert frames.arp_probe(OWN, "10.9.0.7") == PROBE


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
@pytest.mark.parametrize("padding", [0, 18])
def test_arp_claim(operation: int, padding: int) -> None:
    frame = arp(operation, RAW_MAC, "10.9.0.7") + bytes(padding)
    assert frames.arp_claim(frame) == ("10.9.0.7", RAW_MAC)
    assert frames.arp_claim(frame[:41]) is None
    assert frames.arp_claim(frame[:14] + b"\0\6" + frame[16:]) is None  # not Ethernet


def test_filter_passes_what_claims_a_probed_address() -> None:
    """Run by the kernel: a unix socket takes the same programs."""
    probed = [f"10.9.{number}.7" for number in range(64)]
    frames = {
        "own probe": PROBE,
        "first": arp(2, RAW_MAC, "10.9.0.7"),
        "last": arp(1, RAW_MAC, "10.9.63.7"),
        "another": arp(1, RAW_MAC, "10.9.0.8"),
        "short": PROBE[:20],
    }
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        duplicates.attach_filter(ours, duplicates.senders_filter(probed))
        for frame in frames.values():
            theirs.send(frame)
        passed = []
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                passed.append(ours.recv(256))
    assert passed == [frames["first"], frames["last"]]


@given(st.integers(0, 2**128 - 1))
def test_solicited_node(number: int) -> None:
    address = IPv6Address(number)
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | number & 0xFFFFFF)
    assert IPv6Address(frames.solicited_node(str(address))) == group


def test_question_of_duplicate_detection() -> None:
    """From nobody, to the group of all who hold an address like it; RFC 4862, 5.4.2."""
    frame = frames.dad_solicitation(OWN, "fd00::7")
    assert frame[:14] == bytes.fromhex("3333ff000007") + OWN + bytes.fromhex("86dd")
    ip_header, message = frame[14:54], frame[54:]
    assert ip_header[6:8] == bytes([58, 255])
    assert ip_header[8:] == bytes(16) + IPv6Address("ff02::1:ff00:7").packed
    assert message[:2] == bytes([135, 0])
    assert message[8:] == IPv6Address("fd00::7").packed  # no option: it has no address yet
    pseudo = ip_header[8:] + struct.pack("!II", len(message), 58)
    assert frames._checksum(pseudo + message) == 0


def test_answer_to_it() -> None:
    frame = frames.unsolicited_na(OWN, "fd00::7")
    assert frames.discovery_claim(frame) == ("fd00::7", OWN)
    routed = frame[:21] + bytes([64]) + frame[22:]
    assert frames.discovery_claim(routed) is None
    for length in range(len(frame)):
        assert frames.discovery_claim(frame[:length]) is None


def test_question_is_a_claim_where_it_comes_from_nobody() -> None:
    """RFC 4862, 5.4.3: who asks so is about to take the address; another wants its MAC only."""
    frame = frames.dad_solicitation(OWN, "fd00::7")
    assert frames.discovery_claim(frame) == ("fd00::7", OWN)
    assert frames.discovery_claim(frame[:21] + bytes([64]) + frame[22:]) is None
    for length in range(len(frame)):
        assert frames.discovery_claim(frame[:length]) is None
    from_somebody = frame[:22] + IPv6Address("fd00::9").packed + frame[38:]
    assert frames.discovery_claim(from_somebody) is None


def test_solicitation() -> None:
    packet = frames.solicitation(OWN, "fd00::7")
    assert packet[:4] == bytes([135, 0, 0, 0])
    assert packet[4:24] == bytes(4) + IPv6Address("fd00::7").packed
    assert packet[24:] == b"\x01\x01" + OWN


def test_advertisement() -> None:
    start = bytes([136, 0, 9, 9, 0x60, 0, 0, 0]) + IPv6Address("fd00::7").packed
    told = b"\x02\x01" + RAW_MAC
    nonce = b"\x0e\x01" + bytes(6)
    assert frames.advertised(start + told) == ("fd00::7", RAW_MAC)
    assert frames.advertised(start + nonce + told) == ("fd00::7", RAW_MAC)
    assert frames.advertised(start) is None
    assert frames.advertised(start + told[:6]) is None
    assert frames.advertised(start + b"\x0e\x00" + told) is None  # no end to it
    assert frames.advertised(b"\x87" + start[1:] + told) is None


@given(st.binary(max_size=80))
def test_garbage_is_nobodys_claim(data: bytes) -> None:
    assert frames.advertised(data) is None or data[0] == 136
    frames.arp_claim(data)
