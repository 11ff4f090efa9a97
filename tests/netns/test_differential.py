"""The bare macvlan plugin and cni-repair, side by side: what the one takes, the other takes.

Each case is a configuration and a call. The bare plugin attaches a pod with it, is asked to CHECK,
and detaches it; then cni-repair does, with one word of the configuration changed (and with
directories of the test's own). Compared: what was printed, the interface, and what is left of
addresses.

Of generated cases as many as are asked for, other ones each time:

    CNI_REPAIR_DIFFERENTIAL=500 pytest tests/netns/test_differential.py -k generated
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.netns.rig import PLUGINS, Json, Outcome, Pod, Rig

pytestmark = pytest.mark.slow

VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
ABSENT = object()  # for a key that is taken out
MORE = int(os.environ.get("CNI_REPAIR_DIFFERENTIAL", "0"))
# The same 15 each time; others, if asked for.
SEEDS = [*range(15), *(time.time_ns() + number for number in range(MORE))]
SUBNET = {"type": "host-local", "subnet": "10.9.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
STATIC = {
    "type": "static",
    "addresses": [{"address": "10.9.0.77/24", "gateway": "10.9.0.1"}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.9.0.9"}],
    "dns": {"nameservers": ["10.9.0.53"], "search": ["example.org"]},
}
TWO = {"type": "static", "addresses": [{"address": "10.9.0.77/24"}, {"address": "10.9.0.78/24"}]}
DUAL = {
    "type": "static",
    "addresses": [
        {"address": "10.9.0.77/24", "gateway": "10.9.0.1"},
        {"address": "fd00::77/64", "gateway": "fd00::1"},
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
}
RANGES = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}]]}


@dataclass(frozen=True)
class Case:
    """A configuration, and the call that it comes with."""

    changes: Json = field(default_factory=dict)
    tail: str = ""  # more keys, as text
    text: str | None = None  # in place of a document
    environ: dict[str, str] = field(default_factory=dict)
    ipv6: bool = False

    def written(self) -> str:
        if self.text is not None:
            return self.text
        base: Json = {
            "cniVersion": "1.0.0", "name": "pods", "type": "macvlan", "master": "eth0",
            "ipam": RANGES,
        }  # fmt: skip
        document = {k: v for k, v in (base | self.changes).items() if v is not ABSENT}
        text = json.dumps(document)
        return f"{text[:-1]}, {self.tail}}}" if self.tail else text


def changed(**changes: Any) -> Case:
    return Case(changes)


def named(*cases: tuple[str, Case]) -> list[Any]:
    return [pytest.param(case, id=name) for name, case in cases]


SAME = named(
    *((f"version-{v}", changed(cniVersion=v)) for v in (*VERSIONS, "9.0.0", "1.0", 5, [])),
    ("version-absent", changed(cniVersion=ABSENT)),
    ("version-empty", changed(cniVersion="")),
    ("version-null", changed(cniVersion=None)),
    ("version-absent-static", changed(cniVersion=ABSENT, ipam=STATIC)),
    ("version-absent-dual", Case({"cniVersion": ABSENT, "ipam": DUAL}, ipv6=True)),
    ("version-absent-two-addresses", changed(cniVersion=ABSENT, ipam=TWO)),
    ("version-absent-no-address", changed(cniVersion=ABSENT, ipam=ABSENT)),
    ("version-absent-bad-mode", changed(cniVersion=ABSENT, mode="brdige")),
    ("version-empty-prev-result", changed(cniVersion="", prevResult={"ip4": {"ip": "10.9.0.2"}})),
    ("twice-the-same", Case(tail='"mtu": 1400, "mtu": 1400')),
    ("twice-the-same-object", Case(tail='"dns": {"domain": "a"}, "dns": {"domain": "a"}')),
    (
        "twice-the-same-in-ipam",  # whereabouts#111
        Case(
            {"ipam": ABSENT},
            tail='"ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "subnet": "10.9.0.0/24"}',
        ),
    ),
    ("blanks-around", Case(text=f"\n\t {Case().written()} \r\n")),
    ("byte-order-mark", Case(text=f"\ufeff{Case().written()}")),
    ("more-after-it", Case(text=f"{Case().written()}{{}}")),
    ("torn", Case(text=Case().written()[:-9])),
    ("nothing", Case(text=" ")),
    ("null-document", Case(text="null")),
    ("list-document", Case(text="[]")),
    ("empty-document", Case(text="{}")),
    ("not-utf-8", Case(tail='"_comment": "M\udcfcller"')),
    ("half-a-surrogate-pair", Case(tail=r'"_comment": "\ud800", "\udc00": 1')),
    ("nan", Case(tail='"x": NaN')),
    ("big-integer", Case(tail='"x": 123456789012345678901234567890')),
    ("odd-numbers", Case(tail='"x": [-0, 1E5, 1.0, 1e-7]')),
    ("unknown-keys", changed(masters=["eth0"], bcmode={"a": [1, None]}, _comment="x")),
    ("unknown-null", changed(x=None)),
    *(
        (f"null-{key}", Case({key: None}))
        for key in ("name", "type", "master", "mode", "mtu", "ipam", "dns", "args", "mac")
    ),
    *((f"null-{key}", Case({key: None})) for key in ("capabilities", "runtimeConfig", "plugins")),
    ("null-prevResult", changed(prevResult=None)),
    ("null-linkInContainer", changed(linkInContainer=None)),
    *(
        (f"no-text-{key}", Case({key: 5}))
        for key in ("name", "master", "mode", "ipam", "dns", "args", "capabilities", "mac")
    ),
    ("mtu", changed(mtu=1400)),
    ("mtu-0", changed(mtu=0)),
    ("mtu-float", Case(tail='"mtu": 1400.0')),
    ("mtu-exponent", Case(tail='"mtu": 14e2')),
    ("mtu-text", changed(mtu="1400")),
    ("mtu-negative", changed(mtu=-1)),
    ("mtu-too-large", changed(mtu=9000)),
    ("mtu-huge", changed(mtu=10**30)),
    *(
        (f"mode-{mode}", changed(mode=mode))
        for mode in ("", "bridge", "private", "vepa", "passthru", "Bridge", "brdige")
    ),
    ("name-absent", changed(name=ABSENT)),
    *((f"name-{name!a}", changed(name=name)) for name in ("a.b_c-9", "a b", "../x", "ü", "a\n")),
    ("name-too-long-for-ipam", changed(name="x" * 300)),
    ("type-absent", changed(type="macvlan", ipam=STATIC)),
    ("master-absent", changed(master=ABSENT)),
    ("master-empty", changed(master="")),
    ("master-unknown", changed(master="nosuch")),
    ("master-odd", changed(master="a/b")),
    ("master-too-long", changed(master="x" * 20)),
    ("ipam-absent", changed(ipam=ABSENT)),
    ("ipam-empty", changed(ipam={})),
    ("ipam-type-absent", changed(ipam={"subnet": "10.9.0.0/24"})),
    ("ipam-type-in-another-case", changed(ipam={"Type": "host-local", "subnet": "10.9.0.0/24"})),
    ("ipam-type-unknown", changed(ipam={"type": "nosuch"})),
    ("ipam-type-a-path", changed(ipam={"type": "../x"})),
    ("ipam-static", changed(ipam=STATIC)),
    ("ipam-dual", Case({"ipam": DUAL}, ipv6=True)),
    ("dns", changed(dns={"nameservers": ["10.9.0.53"], "options": ["ndots:2"]})),
    ("runtime-mac", changed(runtimeConfig={"mac": "02:11:22:33:44:55"})),
    ("runtime-mac-bad", changed(runtimeConfig={"mac": "zz"})),
    ("runtime-ips", changed(ipam={"type": "static"}, runtimeConfig={"ips": ["10.9.0.99/24"]})),
    ("capabilities", changed(capabilities={"mac": True, "ips": False})),
    ("args-mac", changed(args={"cni": {"ips": ["10.9.0.99"]}})),
    ("mac", changed(mac="02:11:22:33:44:55")),
    ("prev-result-of-others", changed(prevResult={"cniVersion": "1.0.0", "ips": []})),
    *(
        (f"args-{args!a}", Case(environ={"CNI_ARGS": args}))
        for args in (
            "", "junk", "FOO=bar", "IgnoreUnknown=1;FOO=bar", "IgnoreUnknown=true;FOO=",
            "IgnoreUnknown=maybe", "IgnoreUnknown=1;", "IgnoreUnknown=1;a=b=c", "MAC=zz",
            "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop;IgnoreUnknown=1", "IgnoreUnknown=1;=x",
            "IP=10.9.0.99;IgnoreUnknown=1", "MAC=02:11:22:33:44:66;IgnoreUnknown=1",
        )
    ),
    *(
        (f"ifname-{ifname!a}", Case(environ={"CNI_IFNAME": ifname}))
        for ifname in ("", "net1", "ü", "x" * 15, "x" * 16, "a/b", "a:b", "a b", "a\u00a0b", ".")
    ),
    *(
        (f"path-{path!a}", Case(environ={"CNI_PATH": path}))
        for path in ("", "/nosuch", f"/nosuch::{PLUGINS}", f"{PLUGINS}/", f"{PLUGINS}:{PLUGINS}")
    ),
    *(
        (f"id-{name!a}", Case(environ={"CNI_CONTAINERID": name}))
        for name in ("", "a", "../x", "_x", "a:b", "a\n", "x" * 200)
    ),
    *(
        (f"netns-{path}", Case(environ={"CNI_NETNS": path}))
        for path in ("", "/nosuch", "/etc/passwd")
    ),
)  # fmt: skip

# What cni-repair refuses although the plugin takes it, on purpose; help configuration says so.
STRICTER: dict[str, tuple[Case, int, str]] = {
    "twice-but-different": (
        Case(tail='"mtu": 1400, "mtu": 1300'), 6, "nobody knows which one was meant"
    ),
    "twice-but-in-another-case": (
        Case(tail='"dns": {"domain": "a", "Domain": "a"}'), 6, "Go reads both as one key"
    ),
    "integer-and-float": (Case(tail='"x": 1, "x": 1.0'), 6, "two values, for some fields"),
    "key-in-another-case": (changed(MTU=1400), 7, "a key has one spelling, for all who read it"),
    "deeper-than-64-levels": (
        Case(tail=f'"x": {"[" * 100}{"]" * 100}'), 6, "bounds the work that a file can make"
    ),
    "number-too-large": (Case(tail='"x": 1e400'), 6, "no number of ours can hold it"),
    "integer-of-5000-digits": (Case(tail=f'"x": {"9" * 5000}'), 6, "no number of ours can hold it"),
    "link-in-container": (
        changed(linkInContainer=True), 7, "a master inside the pod cannot be repaired"
    ),
    "plugins-in-a-plugin": (changed(plugins=[]), 7, "the list was handed over, not its entry"),
    "container-id-above-200": (
        Case(environ={"CNI_CONTAINERID": "x" * 201}), 4, "it is part of a file's name"
    ),
    "relative-path": (
        Case(environ={"CNI_PATH": PLUGINS[1:]}), 4, "what is run must not depend on where we are"
    ),
    "value-of-our-own-key": (changed(vlanId="3"), 7, "a key of ours has a meaning"),
}  # fmt: skip

# What cni-repair takes although the plugin refuses it: the key is not the plugin's any more.
WIDER: dict[str, Case] = {
    "list-of-masters": changed(master=["eth0"]),
}


# --- running both --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One node for all cases: each leaves it as it was."""
    with Rig(tmp_path_factory.mktemp("differential")) as made:
        yield made


@dataclass(frozen=True)
class Seen:
    """What a plugin said and made, without what differs from run to run."""

    add: Outcome
    made: Json | None
    check: Outcome | None  # where ADD succeeded
    deleted: Outcome
    left: tuple[str, ...]  # links in the pod, addresses in the store


def both(rig: Rig, case: Case) -> tuple[Seen, Seen]:
    """The bare plugin, then ours, on one pod."""
    pod = rig.pod("pod", case.ipv6)
    try:
        bare = see(rig, case, False, pod)
        for link in set(rig.links(pod)) - {"lo"}:  # of an ADD that failed
            rig.ip(f"link del {link}", pod)
        ours = see(rig, case, True, pod)
    finally:
        rig.drop_pod(pod)
    assert rig.kept() == []
    return bare, ours


def see(rig: Rig, case: Case, ours: bool, pod: Pod) -> Seen:
    """Attach the pod, look at it, CHECK, detach."""
    store = rig.base / "store"
    text = case.written().replace('"host-local"', f'"host-local", "dataDir": "{store}"')
    if ours:
        mine = f'"cni-repair", "checkpointDir": "{rig.checkpoints}", "runDir": "{rig.base}/run"'
        text = text.replace('"type": "macvlan"', f'"type": {mine}', 1)
    executable = "" if ours else f"{PLUGINS}/macvlan"

    def call(verb: str, stdin: str) -> Outcome:
        return rig.plugin(verb, pod, stdin, executable=executable, **case.environ)

    add, check, made = call("ADD", text), None, None
    if add.status == 0:
        made = _made(rig, pod, case.environ.get("CNI_IFNAME", "eth0"))
        check = call("CHECK", _with_result(text, add))
    deleted = call("DEL", text)
    links = [link for link in rig.links(pod) if link != "lo"]
    left = tuple(links + [path.name for path in store.glob("*/[0-9a-f]*[.:]*")])
    shutil.rmtree(store, ignore_errors=True)
    mac = made["addr"][0]["address"] if made else "none"
    return Seen(
        _plain(add, pod, mac), _without_mac(made, mac), check and _plain(check, pod, mac),
        _plain(deleted, pod, mac), left,
    )  # fmt: skip


def _made(rig: Rig, pod: Pod, ifname: str) -> Json:
    state = rig.state(pod, ifname)
    del state["addr"][0]["ifindex"]
    return state


def _without_mac(made: Json | None, mac: str) -> Json | None:
    if made is None:
        return None
    text = json.dumps(made)
    for info in made["addr"][0]["addr_info"]:
        if info["local"].startswith("fe80"):
            text = text.replace(info["local"], "LINK-LOCAL")
    without: Json = json.loads(text.replace(mac, "MAC"))
    return without


def _with_result(text: str, add: Outcome) -> str:
    """The configuration with ADD's Result, as a runtime hands it to CHECK."""
    if add.status or '"prevResult"' in text:
        return text
    start = text.rindex("}")
    return f'{text[:start]}, "prevResult": {add.out}}}'


def _plain(outcome: Outcome, pod: Pod, mac: str) -> Outcome:
    out = outcome.out.strip().replace(pod.path, "PATH").replace(mac, "MAC")
    try:
        out = json.dumps(json.loads(out))
    except ValueError:
        pass
    return Outcome(outcome.status, out, outcome.err)


def code_of(outcome: Outcome) -> int:
    code = json.loads(outcome.out)["code"]
    assert isinstance(code, int)
    return code


_UNDECODABLE_OR_WRONG = {6, 7}  # the plugin's library decodes some values that we check
_OWN_REFUSALS = {999, 4, 6, 7, 11}  # the plugins' only code of their own, and more precise ones


def compare(rig: Rig, case: Case) -> None:
    bare, ours = both(rig, case)
    assert ours.left in ((), bare.left), "what DEL leaves"
    if bare.add.status == 0:
        assert (ours.add.status, ours.add.out) == (0, bare.add.out), ours.add
        assert ours.made == bare.made
        assert ours.check == bare.check
        assert (ours.deleted.status, ours.deleted.out) == (0, bare.deleted.out), ours.deleted
        return
    assert ours.add.status == 1, f"the plugin refuses it: {bare.add}"
    theirs, our = code_of(bare.add), code_of(ours.add)
    if ours.add.out != bare.add.out:  # else: the plugin's own error, passed through
        alike = theirs == our or {theirs, our} <= _UNDECODABLE_OR_WRONG
        assert alike or (theirs == 999 and our in _OWN_REFUSALS), (bare.add, ours.add)
    if bare.deleted.status == 0:
        assert ours.deleted.status == 0, ours.deleted


# --- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SAME)
def test_taken_or_refused_alike(node: Rig, case: Case) -> None:
    compare(node, case)


@pytest.mark.parametrize("name", STRICTER)
def test_refused_on_purpose(node: Rig, name: str) -> None:
    case, code, _reason = STRICTER[name]
    bare, ours = both(node, case)
    assert bare.add.status == 0, f"the plugin refuses it, too: {bare.add}"
    assert (ours.add.status, code_of(ours.add)) == (1, code), ours.add
    assert ours.left == ()


@pytest.mark.parametrize("name", WIDER)
def test_taken_on_purpose(node: Rig, name: str) -> None:
    bare, ours = both(node, WIDER[name])
    assert (bare.add.status, ours.add.status) == (1, 0)


# Of addresses: what `validate` calls wrong, and nothing else, the plugins refuse.
IPAMS: dict[str, tuple[Json, str]] = {
    "subnet": ({"subnet": "10.9.0.0/24"}, ""),
    "no-length": ({"subnet": "10.9.0.0"}, "$.ipam.subnet"),
    "too-long": ({"subnet": "10.9.0.0/33"}, "$.ipam.subnet"),
    "netmask": ({"subnet": "10.9.0.0/255.255.255.0"}, "$.ipam.subnet"),
    "no-text": ({"subnet": 10}, "$.ipam.subnet"),
    "host-bits": ({"subnet": "10.9.0.5/24"}, "$.ipam.subnet"),
    "no-room": ({"subnet": "10.9.0.0/31"}, "$.ipam.subnet"),
    "some-room": ({"subnet": "10.9.0.0/30"}, ""),
    "start-elsewhere": ({"subnet": "10.9.0.0/24", "rangeStart": "10.8.0.5"}, "$.ipam.rangeStart"),
    "start-no-address": ({"subnet": "10.9.0.0/24", "rangeStart": "10.9.0"}, "$.ipam.rangeStart"),
    "end-elsewhere": ({"subnet": "10.9.0.0/24", "rangeEnd": "10.8.0.5"}, "$.ipam.rangeEnd"),
    "end-first": (
        {"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.5"},
        "$.ipam.rangeEnd",
    ),
    "end-is-start": (
        {"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.9"}, ""
    ),
    "gateway-no-address": ({"subnet": "10.9.0.0/24", "gateway": "x"}, "$.ipam.gateway"),
    "gateway-elsewhere": ({"subnet": "10.9.0.0/24", "gateway": "10.8.0.1"}, ""),
    "in-ranges": ({"ranges": [[{"subnet": "10.9.0.5/24"}]]}, "$.ipam.ranges[0][0].subnet"),
    "empty": ({"ranges": [[{"subnet": "10.9.0.0/24", "rangeStart": ""}]]}, ""),
    "route-no-length": (
        {"subnet": "10.9.0.0/24", "routes": [{"dst": "192.0.2.0"}]}, "$.ipam.routes[0].dst"
    ),
    "route-host-bits": (
        {"subnet": "10.9.0.0/24", "routes": [{"dst": "192.0.2.7/24"}]}, "$.ipam.routes[0].dst"
    ),
    "route-no-gateway": (
        {"subnet": "10.9.0.0/24", "routes": [{"dst": "192.0.2.0/24", "gw": "10.9.0.1/24"}]},
        "$.ipam.routes[0].gw",
    ),
    "route-as-text": ({"subnet": "10.9.0.0/24", "routes": ["0.0.0.0/0"]}, "$.ipam.routes[0]"),
    "route-to-nowhere": (
        {"subnet": "10.9.0.0/24", "routes": [{"gw": "10.9.0.1"}]}, "$.ipam.routes[0]"
    ),
    "routes-as-object": (
        {"subnet": "10.9.0.0/24", "routes": {"dst": "0.0.0.0/0"}}, "$.ipam.routes"
    ),
    "ranges-as-texts": ({"ranges": ["10.9.0.0/24"]}, "$.ipam.ranges[0]"),
    "empty-set": ({"ranges": [[]]}, "$.ipam.ranges[0]"),
    "range-without-subnet": ({"ranges": [[{"rangeStart": "10.9.0.5"}]]}, "$.ipam.ranges[0][0]"),
    "both-families-in-one": (
        {"ranges": [[{"subnet": "10.9.0.0/24"}, {"subnet": "fd00::/64"}]]}, "$.ipam.ranges[0]"
    ),
    "static-texts": ({"type": "static", "addresses": ["10.9.0.5/24"]}, "$.ipam.addresses[0]"),
    "static-object": (
        {"type": "static", "addresses": {"address": "10.9.0.5/24"}}, "$.ipam.addresses"
    ),
    "static": ({"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}, ""),
    "static-no-length": (
        {"type": "static", "addresses": [{"address": "10.9.0.5"}]}, "$.ipam.addresses[0].address"
    ),
    "static-no-gateway": (
        {"type": "static", "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0"}]},
        "$.ipam.addresses[0].gateway",
    ),
}  # fmt: skip


# Values of the wrong kind.
KINDS: dict[str, tuple[Json, str]] = {
    "dns": ({"dns": ["10.9.0.53"]}, "$.dns"),
    "capabilities": ({"capabilities": ["mac"]}, "$.capabilities"),
    "capability": ({"capabilities": {"mac": "true"}}, "$.capabilities.mac"),
    "runtime": ({"runtimeConfig": []}, "$.runtimeConfig"),
    "args": ({"args": []}, "$.args"),
    "mac": ({"mac": 5}, "$.mac"),
    "mac-short": ({"mac": "02:00:00:00:00"}, "$.mac"),
    "mac-in-dashes": ({"mac": "02-00-00-00-00-09"}, ""),
    "mac-in-dots": ({"mac": "0200.0000.0009"}, ""),
    "mac-of-a-group": ({"mac": "01:00:5e:00:00:01"}, "$.mac"),
    "mac-of-nobody": ({"mac": "00:00:00:00:00:00"}, "$.mac"),
    "mtu-too-small": ({"mtu": 67}, "$.mtu"),
    "mtu-of-the-master": ({"mtu": 0}, ""),
    "mtu-too-large": ({"mtu": 10**30}, "$.mtu"),
    "nulls": ({"dns": None, "capabilities": {"mac": None}, "args": None, "mac": None}, ""),
}


@pytest.mark.parametrize("what", [*IPAMS, *KINDS])
def test_validate_knows_what_the_plugins_refuse(node: Rig, what: str) -> None:
    changes, place = KINDS.get(what) or ({"ipam": IPAMS[what][0]}, IPAMS[what][1])
    if what in IPAMS:
        changes["ipam"] = {"type": "host-local", **changes["ipam"]}
    case = changed(**changes)
    assert [one.add.status for one in both(node, case)] == [int(bool(place))] * 2
    path = node.base / "10-pods.conf"
    path.write_text(case.written().replace('"macvlan"', '"cni-repair"'))
    (file,) = json.loads(node.cli("validate", "-o", "json", str(path)).out)["files"]
    (part,) = file["parts"]
    wrong = [one["path"] for one in part["problems"] if one["severity"] != "note"]
    assert wrong == ([place] if place else [])


CHOICES: dict[str, list[Any]] = {
    "cniVersion": [*VERSIONS[:-1], "", None, ABSENT],
    "mode": ["bridge", "private", "vepa", "", None, ABSENT],
    "mtu": [1400, 1500, 0, None, ABSENT],
    "ipam": [RANGES, SUBNET, STATIC, TWO, {}, None, ABSENT],
    "dns": [{"nameservers": ["10.9.0.53"]}, {}, None, ABSENT],
    "args": [{"cni": {}}, {"other": {"a": 1}}, {}, None, ABSENT],
    "runtimeConfig": [{"mac": "02:11:22:33:44:55"}, {"other": [1]}, {}, ABSENT],
    "capabilities": [{"mac": True}, {}, ABSENT],
    "prevResult": [{"cniVersion": "0.4.0", "ips": []}, None, ABSENT],
    "odd": [{"a": [1, 2.5, None, True]}, "ü", 10**20, ABSENT],
}
TAILS = [
    "", '"odd2": {"a": 1, "a": 1}', '"odd2": [], "odd2": []', r'"odd2": "\ud800"',
    '"odd2": "\udcff"',
]  # fmt: skip
ARGS = [
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0", "", "IgnoreUnknown=true;A=", "A=b",
    "IgnoreUnknown=1;MAC=02:11:22:33:44:66",
]  # fmt: skip


def generated(seed: int) -> Case:
    """A configuration of choices for every key, in any order."""
    chance = random.Random(seed)
    changes = {key: chance.choice(values) for key, values in CHOICES.items()}
    order = chance.sample(sorted(changes), len(changes))
    environ = {"CNI_ARGS": chance.choice(ARGS), "CNI_IFNAME": chance.choice(["eth0", "net1"])}
    return Case({key: changes[key] for key in order}, chance.choice(TAILS), environ=environ)


@pytest.mark.parametrize("seed", SEEDS)
def test_generated(node: Rig, seed: int) -> None:
    compare(node, generated(seed))
