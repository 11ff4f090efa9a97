"""What the real macvlan plugin makes of a Result, and what `adopt` and `repair` make of the same
Result when nothing else is left: the same addresses and routes, in the same order.

An IPAM plugin of the tests prints the Results. Each pod has its own addresses: `$n` is its number.
To try many more, other ones each time: CNI_REPAIR_RESULTS=2000 pytest tests/netns/test_results.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from string import Template

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.netns.podconfig import View, differences, view_of, viewing
from tests.netns.rig import Json, Pod, Rig
from tests.netns.test_adopt import adopt, as_list, bare_conf, remember

pytestmark = pytest.mark.slow

MANY = int(os.environ.get("CNI_REPAIR_RESULTS", "0"))
BATCH = 50  # Results on one node

A4 = {"address": "10.20.$n.5/24"}
A6 = {"address": "fd00:20:$n::5/64"}
GW4, GW6 = "10.20.$n.1", "fd00:20:$n::1"
WITH_GATEWAY = [{**A4, "gateway": GW4}]
WITH_GATEWAY_6 = [{**A6, "gateway": GW6}]
ALL4, ALL6 = "0.0.0.0/0", "::/0"


@dataclass(frozen=True)
class Told:
    """A Result of the IPAM plugin, and the CNI version of the network."""

    ips: list[Json]
    routes: list[Json] | None
    version: str = "1.0.0"

    def result(self, n: int) -> Json:
        routes = {} if self.routes is None else {"routes": self.routes}
        text = json.dumps({"cniVersion": "1.0.0", "ips": self.ips, **routes, "dns": {}})
        result: Json = json.loads(Template(text).substitute(n=n))
        return result


@dataclass
class Node:
    """Pods that the real plugin attached by such Results, lost, adopted and repaired together."""

    rig: Rig
    pods: dict[int, Pod] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)  # in the plugin's words
    cached: dict[int, Json] = field(default_factory=dict)
    before: dict[int, View] = field(default_factory=dict)
    wrong: dict[int, list[str]] = field(default_factory=dict)

    def run(self, told: Iterable[Told]) -> Node:
        directory = self.rig.base / "told"
        directory.mkdir()
        for n, one in enumerate(told, 1):
            (directory / f"pod{n}").write_text(json.dumps(one.result(n)))
        self.rig.write_plugin(
            "telling",
            "#!/bin/sh\n"
            'pod=${CNI_ARGS##*K8S_POD_NAME=}; [ "$CNI_COMMAND" != ADD ] || '
            f'exec cat "{directory}/$pod"\n',
        )
        for n, one in enumerate(told, 1):
            self._attach(n, one)
        self._lose_and_repair()
        return self

    def _attach(self, n: int, told: Told) -> None:
        rig = self.rig
        pod = rig.pod(f"pod{n}", ipv6=True)
        rig.sysctl(pod, "net/ipv6/conf/default/accept_dad", "0")  # no test of waiting for it
        conf = bare_conf(rig, cniVersion=told.version, ipam={"type": "telling"})
        if told.version < "0.3":  # no Result of these tells the MAC
            conf["mac"] = f"02:00:00:02:{n >> 8:02x}:{n & 0xFF:02x}"
        done = rig.bare("ADD", pod, conf)
        if done.status:
            self.refused[n] = str(json.loads(done.out)["msg"])
            return
        self.pods[n], self.cached[n] = pod, json.loads(done.out)
        remember(rig, pod, as_list(conf), self.cached[n])
        self.before[n] = self._view(pod)

    def _lose_and_repair(self) -> None:
        self.rig.reload()
        report = adopt(self.rig, "--write")
        assert {one["state"] for one in report["attachments"]} == {"adopted"}
        where = ("--checkpoint-dir", str(self.rig.checkpoints))
        done = self.rig.cli("repair", "--all", *where, "--run-dir", str(self.rig.base / "run"))
        told = f"{done.out}{done.err}"
        for n, pod in self.pods.items():
            found = differences(self.before[n], self._view(pod))
            said = [line for line in told.splitlines() if pod.id[:12] in line]
            self.wrong[n] = [*found, *(line for line in said if not line.startswith("repaired"))]

    def _view(self, pod: Pod) -> View:
        """Addresses and routes; the Result tells nothing of the rest."""
        self.rig.settle(pod)
        asked = view_of(self.rig.run("sh", "-c", viewing(pod.name)).out)
        view = {words: asked[words] for words in asked if "addr" in words or "route" in words}
        # Whether a link-local address or the kernel's own came first: since 1.6 the plugin sets the
        # link up after the addresses, not before.
        view["-j addr show"].sort(key=lambda row: row["local"] if row["scope"] == "253" else "")
        return view

    def story(self, n: int) -> str:
        rows = [
            f"  {next(iter(row.values()))}" for row in self.before[n]["-4 route show table all"]
        ]
        return "\n".join([json.dumps(self.cached[n]), *self.wrong[n], "before:", *rows])


CASES: dict[str, Told] = {
    "one-default": Told(WITH_GATEWAY, [{"dst": ALL4}]),
    "no-gateway-written-as-zeros": Told([A4], [{"dst": ALL4, "gw": "0.0.0.0"}]),
    "zeros-although-the-address-has-one": Told(WITH_GATEWAY, [{"dst": ALL4, "gw": "0.0.0.0"}]),
    "zeros-as-the-address's-gateway": Told([{**A4, "gateway": "0.0.0.0"}], [{"dst": ALL4}]),
    "zeros-before-another-gateway": Told(
        [{**A4, "gateway": "0.0.0.0"}, {"address": "10.21.$n.5/24", "gateway": "10.21.$n.1"}],
        [{"dst": ALL4}],
    ),
    "two-gateways": Told([A4], [{"dst": ALL4, "gw": GW4}, {"dst": ALL4, "gw": "10.20.$n.2"}]),
    "two-gateways-one-by-the-address": Told(
        WITH_GATEWAY, [{"dst": ALL4}, {"dst": ALL4, "gw": "10.20.$n.2"}]
    ),
    "with-and-without-gateway": Told(
        [A4], [{"dst": ALL4, "gw": GW4}, {"dst": ALL4}, {"dst": ALL4, "gw": "10.20.$n.2"}]
    ),
    "two-gateways-of-ipv6": Told(WITH_GATEWAY_6, [{"dst": ALL6}, {"dst": ALL6, "gw": "fe80::1"}]),
    "three-gateways-of-ipv6": Told(
        WITH_GATEWAY_6,
        [{"dst": ALL6}, {"dst": ALL6, "gw": "fe80::1"}, {"dst": ALL6, "gw": "fd00:20:$n::2"}],
    ),
    "with-and-without-gateway-of-ipv6": Told([A6], [{"dst": ALL6}, {"dst": ALL6, "gw": GW6}]),
    "two-with-one-without-gateway-of-ipv6": Told(
        [A6], [{"dst": ALL6, "gw": GW6}, {"dst": ALL6}, {"dst": ALL6, "gw": "fe80::1"}]
    ),
    "gateway-behind-another-route": Told(
        [A6], [{"dst": "fd07:$n::/64"}, {"dst": ALL6, "gw": "fd07:$n::1"}]
    ),
    "gateway-of-the-other-family": Told(
        [{**A4, "gateway": GW6}, A6], [{"dst": ALL4}, {"dst": ALL6}]
    ),
    "several-addresses-and-gateways": Told(
        [*WITH_GATEWAY, {"address": "10.21.$n.5/24", "gateway": "10.21.$n.1"}],
        [{"dst": ALL4}, {"dst": "10.99.0.0/16"}, {"dst": "10.98.0.0/16", "gw": "10.21.$n.1"}],
    ),
    "both-families": Told([*WITH_GATEWAY, *WITH_GATEWAY_6], [{"dst": ALL4}, {"dst": ALL6}]),
    "host-bits-of-ipv6": Told(WITH_GATEWAY_6, [{"dst": "fd01::5/64"}]),
    "gateway-is-the-address": Told([{**A4, "gateway": "10.20.$n.5"}], [{"dst": ALL4}]),
    "gateway-of-ipv4-within-ipv6": Told([{**A4, "gateway": f"::ffff:{GW4}"}], [{"dst": ALL4}]),
    "ipv4-within-ipv6-to-all": Told(WITH_GATEWAY, [{"dst": "::ffff:0.0.0.0/0"}]),
    "compatible-ipv6": Told([{"address": "::10.20.$n.5/120"}], [{"dst": "::10.21.$n.0/120"}]),
    "32": Told([{"address": "10.20.$n.5/32"}], [{"dst": ALL4}]),
    "31": Told([{"address": "10.20.$n.4/31", "gateway": "10.20.$n.5"}], [{"dst": ALL4}]),
    "30": Told([{"address": "10.20.$n.5/30", "gateway": "10.20.$n.6"}], [{"dst": ALL4}]),
    "128": Told([{"address": "fd00:20:$n::5/128", "gateway": "fe80::1"}], [{"dst": ALL6}]),
    "link-local": Told([{"address": "fe80::$n:77/64"}, *WITH_GATEWAY_6], [{"dst": ALL6}]),
    "site-local": Told([{"address": "fec0:$n::77/64"}], []),
    "ipv4-link-local": Told([{"address": "169.254.$n.5/16"}], []),
    "the-addresses'-own-prefix": Told([A4], [{"dst": "10.20.$n.0/24"}]),
    "own-prefix-by-a-gateway": Told(WITH_GATEWAY, [{"dst": "10.20.$n.0/24"}, {"dst": ALL4}]),
    "own-prefix-twice": Told(
        [A4], [{"dst": "10.20.$n.0/24"}, {"dst": "10.20.$n.0/24", "gw": GW4}, {"dst": ALL4}]
    ),
    "own-prefix-of-ipv6": Told([A6], [{"dst": "fd00:20:$n::/64"}]),
    "own-prefix-of-ipv6-by-a-gateway": Told(WITH_GATEWAY_6, [{"dst": "fd00:20:$n::/64"}]),
    "secondaries": Told(
        [*WITH_GATEWAY, {"address": "10.20.$n.6/24"}, {"address": "10.20.$n.7/25"}], [{"dst": ALL4}]
    ),
    "an-address-with-two-prefixes": Told([A4, {"address": "10.20.$n.5/16"}], []),
    "several-of-ipv6": Told(
        [A6, {"address": "fd00:20:$n::6/64"}, {"address": "fd00:21:$n::6/64"}], []
    ),
    "multicast": Told([A4, A6], [{"dst": "224.0.0.0/4"}, {"dst": "ff05::/16"}]),
    "routes-to-itself": Told([A4, A6], [{"dst": "10.20.$n.5/32"}, {"dst": "fd00:20:$n::5/128"}]),
    "no-routes": Told(WITH_GATEWAY, None),
    "fields-of-1.1": Told(
        WITH_GATEWAY,
        [{"dst": ALL4, "priority": 7, "mtu": 1400, "advmss": 1300, "table": 9, "scope": 253}],
    ),
    "0.2.0": Told([*WITH_GATEWAY, *WITH_GATEWAY_6], [{"dst": ALL4}, {"dst": ALL6}], "0.2.0"),
    "0.1.0": Told(
        WITH_GATEWAY, [{"dst": ALL4}, {"dst": "10.9.9.0/24", "gw": "10.20.$n.9"}], "0.1.0"
    ),
    "0.3.1": Told(WITH_GATEWAY, [{"dst": ALL4}, {"dst": ALL4, "gw": "10.20.$n.2"}], "0.3.1"),
}  # fmt: skip

# What no cache can hold: the plugin fails.
NEVER: dict[str, Told] = {
    "twice-the-same": Told(WITH_GATEWAY, [{"dst": ALL4}, {"dst": ALL4, "gw": GW4}]),
    "zeros-of-ipv6": Told([A6], [{"dst": ALL6, "gw": "::"}]),
    "zeros-of-ipv4-for-ipv6": Told([A6], [{"dst": ALL6, "gw": "0.0.0.0"}]),
    "off-link": Told([A4], [{"dst": ALL4, "gw": "10.7.0.1"}]),
    "no-network-for-the-gateway": Told(
        [{"address": "10.20.$n.5/32", "gateway": GW4}], [{"dst": ALL4}]
    ),
    "gateway-of-ipv6-for-ipv4": Told([A4], [{"dst": ALL4, "gw": "fe80::1"}]),
    "host-bits": Told(WITH_GATEWAY, [{"dst": "10.1.2.3/8"}]),
    "gateway-is-the-address-of-ipv6": Told([{**A6, "gateway": "fd00:20:$n::5"}], [{"dst": ALL6}]),
    "ipv4-within-ipv6": Told([{"address": "::ffff:10.20.$n.5/120"}], []),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """All cases together: a pod each."""
    with Rig(tmp_path_factory.mktemp("results")) as rig:
        yield Node(rig).run([*CASES.values(), *NEVER.values()])


@pytest.mark.parametrize("case", CASES)
def test_what_the_plugin_made_comes_back(node: Node, case: str) -> None:
    n = 1 + list(CASES).index(case)
    assert n not in node.refused, node.refused[n]
    assert node.wrong[n] == [], node.story(n)


@pytest.mark.parametrize("case", NEVER)
def test_what_the_plugin_refuses(node: Node, case: str) -> None:
    """Should it take one of these some day, it belongs to the cases above."""
    assert 1 + len(CASES) + list(NEVER).index(case) in node.refused


# --- any Result -----------------------------------------------------------------------------------

# Networks with a pod's addresses in them, and what gateways they may have: mostly such as the
# plugin takes, else little would be learnt.
_NETS4, _LENGTHS4 = ["10.20.$n.", "10.21.$n."], [24, 24, 24, 25, 16, 30, 31, 32]
_NETS6, _LENGTHS6 = ["fd00:20:$n::", "fd00:21:$n::"], [64, 64, 64, 48, 128]
_HOSTS, _GATEWAYS = ["5", "6"], ["1", "1", "4", "7"]
_TO4 = [
    ALL4,
    ALL4,
    "10.99.0.0/16",
    "10.20.$n.0/24",
    "10.20.$n.9/32",
    "10.20.$n.0/25",
    "10.20.0.0/16",
]
_TO6 = [ALL6, ALL6, "fd99::/64", "fd00:20:$n::/64", "fd00:20:$n::9/128", "fd99::5/64"]
_NONE = ""  # no such key


@st.composite
def results(draw: st.DrawFn) -> Told:
    def one_of(*values: str) -> str:
        return draw(st.sampled_from(values))

    def given(key: str, value: str) -> Json:
        return {key: value} if value else {}

    ips, routes = [], []
    for nets, lengths, to, others in (
        (_NETS4, _LENGTHS4, _TO4, ["0.0.0.0"]), (_NETS6, _LENGTHS6, _TO6, ["fe80::1", "fe80::2"]),
    ):  # fmt: skip
        used = draw(st.lists(st.sampled_from(nets), max_size=2, unique=True))
        ways = [net + host for net in used for host in _GATEWAYS] + others
        for net in used:
            for host in draw(st.lists(st.sampled_from(_HOSTS), min_size=1, unique=True)):
                length = draw(st.sampled_from(lengths))
                gateway = one_of(
                    _NONE, _NONE, *[way for way in ways if way.startswith(net)], *others
                )
                ips.append({"address": f"{net}{host}/{length}", **given("gateway", gateway)})
        ends = st.tuples(st.sampled_from(to), st.sampled_from([_NONE, _NONE, *ways]))
        for dst, way in draw(st.lists(ends, max_size=4 if used else 0, unique=True)):
            routes.append({"dst": dst, **given("gw", way)})
    told = Told(draw(st.permutations(ips)), draw(st.permutations(routes)))
    kinds = [":" in one["address"] for one in ips]
    several = kinds.count(True) > 1 or kinds.count(False) > 1  # which 0.2.0 cannot say
    versions = ["1.0.0", "0.4.0", "0.3.1", *([] if several else ["0.2.0", "0.1.0"])]
    return replace(told, version=one_of(*versions))


def generated(count: int) -> list[Told]:
    """So many different ones, the same ones unless MANY is set."""
    found: dict[str, Told] = {}

    @settings(
        max_examples=2 * count,
        derandomize=not MANY,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(told=results())
    def collect(told: Told) -> None:
        if told.ips and told.routes:
            found[str(told)] = told

    collect()
    return list(found.values())[-count:]  # hypothesis begins with small ones


@pytest.fixture(scope="module")
def told() -> list[Told]:
    return generated(max(MANY, BATCH))


@pytest.mark.parametrize("batch", range(max(1, MANY // BATCH)))
def test_whatever_the_plugin_made_comes_back(rig: Rig, told: list[Told], batch: int) -> None:
    node = Node(rig).run(told[batch * BATCH : (batch + 1) * BATCH])
    print(f"{len(node.pods)} Results; {len(node.refused)} that the plugin refuses")
    wrong = [node.story(n) for n, found in node.wrong.items() if found]
    assert not wrong, "\n".join(wrong[:5])
    assert len(node.pods) >= BATCH // 4
