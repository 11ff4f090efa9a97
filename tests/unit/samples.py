"""The values that unit tests start from: a pod of the seed's incident (DESIGN §1)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cni_repair.base.frozen import replace
from cni_repair.checkpoint.identity import Identity
from cni_repair.checkpoint.model import Checkpoint, Pod
from cni_repair.checkpoint.store import Key
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.model import (
    IFF_ALLMULTI,
    IFF_MULTICAST,
    IFF_RUNNING,
    IFF_UP,
    Address,
    Attachment,
    Hop,
    HostLink,
    Neighbour,
    NodeLink,
    NodeLinks,
    PodLink,
    Route,
    Rule,
    Vlan,
)
from cni_repair.network.observed import Observed

REPOSITORY = Path(__file__).resolve().parents[2]
NETNS = "/proc/4711/ns/net"
NODE_NETNSID = 0
CONTAINER = "06c9b8d0a800735982222588c28e70140820acfd04a120264b87a20306322f55"

UPLINK = HostLink(
    "eth0", 2, "", "52:54:00:00:00:01", 1500, IFF_UP | IFF_RUNNING,
    permanent_mac="52:54:00:00:00:01", bus_address="0000:00:03.0",
)  # fmt: skip
MASTER = HostLink(
    "eth0.3", 5, "vlan", "52:54:00:00:00:01", 1500, IFF_UP | IFF_RUNNING, lower=2, vlan=Vlan(3)
)
LINK = PodLink(7, "6e:92:1a:b4:fc:34", 1500, "macvlan", "bridge", 0, 1000)
ADDRESS = Address(4, "10.161.75.155", 22, broadcast="10.161.75.255", label="eth0")
ADDRESS_6 = Address(6, "fd00::155", 64)
ROUTE = Route(4, "0.0.0.0/0", gateway="10.161.72.1")
ROUTE_6 = Route(6, "::/0", gateway="fd00::1", metric=1024)
RULE = Rule(4, 32765, src="10.161.75.155/32", table=100)
NEIGHBOUR = Neighbour(4, "10.161.72.1", "52:54:00:00:00:fe")
PROXY = Neighbour(6, "fd00::9")
ATTACHMENT = Attachment(
    "eth0", LINK, (MASTER, UPLINK), (ADDRESS, ADDRESS_6), (ROUTE, ROUTE_6),
    (("ipv4/arp_notify", "1"),),
)  # fmt: skip
# … with all that a later plugin or the pod itself may have given it
RICH = replace(
    ATTACHMENT,
    rules=(RULE, Rule(6, 1000, iif="eth0", sport=(80, 90), action=7)),
    neighbours=(NEIGHBOUR, PROXY),
    absent_routes=(Route(4, "10.161.72.0/22", scope=253, protocol=2, prefsrc=ADDRESS.address),),
)
# … and as CHECK or a snapshot took it, with all that cni-repair 0.1.0 did not know of
SETTLED = replace(
    RICH,
    link=replace(
        LINK, alias="shop/cart-0", altnames=("podnet0", "cart"), group=7, bcqueuelen=2000,
        device_flags=IFF_MULTICAST | IFF_ALLMULTI,
    ),
    addresses=(
        replace(ADDRESS, metric=50, proto=4),
        replace(ADDRESS_6, valid=86400, preferred=3600),
        Address(6, "fe80::155", 64, scope=253, proto=3),
    ),
    routes=(
        ROUTE,
        ROUTE_6,
        Route(
            4, "198.51.100.0/24", congctl="bbr",
            hops=(Hop("eth0", "10.161.72.1", 3), Hop("net1", onlink=True, realm=9)),
        ),
        Route(4, "203.0.113.0/24", gateway="10.161.72.1", realm=0x10002),
        Route(6, "fd07::/64", gateway="fd00::2", src="fd00::/64", pref=1, weight=2, shared=True),
    ),
    sysctls=(*ATTACHMENT.sysctls, ("ipv6/stable_secret", "2001:db8::5ec:2e7")),
    parents=(replace(MASTER, vlan=Vlan(3, 0x88A8, 0x3, ((0, 3), (1, 2)), ((5, 1),))), UPLINK),
    settled=True,
    addr_gen_mode=2,
    lifetimes_at=4711,
)  # fmt: skip
# What the node has of its own beside it
NODE_LINKS = NodeLinks(
    1_700_000_000_500,
    (
        NodeLink("eth0.3", (Address(4, "10.161.72.250", 22),), (Route(4, "10.8.0.0/24"),)),
        NodeLink("shim0", (Address(4, "10.161.72.251", 32),), (), LINK, "eth0.3", False),
    ),
)

RESULT: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": LINK.mac, "sandbox": NETNS}],
    "ips": [{"interface": 0, "address": "10.161.75.155/22", "gateway": "10.161.72.1"}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.161.72.1"}],
    "dns": {},
}
NETCONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "podnet",
    "type": "cni-repair",
    "master": ["bond4", "eth0"],
    "vlanId": 3,
    "mode": "bridge",
    "ipam": {"type": "host-local", "subnet": "10.161.72.0/22"},
}
KEY = Key(CONTAINER, "eth0")
# Of another boot: whoever looks for this namespace finds it stale, and touches nothing.
CHECKPOINT = Checkpoint(
    key=KEY,
    network="podnet",
    pod=Pod("shop", "cart-0", "6c1c0f4e"),
    attached_at=1_700_000_000_000,
    netns=Identity(NETNS, "a boot of long ago", 4, 4026532008, 17, 4711, 123456),
    netns_path=NETNS,
    delegate="macvlan",
    netconf=NETCONF,
    result=RESULT,
    attachment=ATTACHMENT,
)

# What the seed's write-up shows, of the file `06c9b8d0a800`.
SEED_NAME = "06c9b8d0a800"
SEED: dict[str, Any] = {
    "netns": "/proc/111576/ns/net",
    "podname": "xxxx",
    "sandbox": CONTAINER,
    "ifname": "eth0",
    "result": {
        "interfaces": [{"name": "eth0", "mac": LINK.mac, "sandbox": "/proc/111576/ns/net"}],
        "ips": [
            {
                "version": "4",
                "interface": 0,
                "address": "10.161.75.155/22",
                "gateway": "10.161.72.1",
            }
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.161.72.1"}],
        "dns": {},
    },
}


def live(
    link: PodLink = LINK, name: str = "eth0", up: bool = True, carrier: bool = True
) -> LiveLink:
    return LiveLink(name, link, up, carrier, MASTER.ifindex, NODE_NETNSID)


def as_desired(desired: Attachment) -> Observed:
    """The pod as it was when all was well."""
    return Observed(
        NODE_NETNSID,
        live(desired.link, desired.ifname),
        desired.addresses,
        desired.routes,
        rules=desired.rules,
        neighbours=desired.neighbours,
    )


def run_module(
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """`python -m cni_repair` from the checkout, with an environment of our own."""
    return subprocess.run(
        [sys.executable, "-m", "cni_repair", *arguments],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "COLUMNS": "100", **(environ or {})},
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def configurations() -> list[Path]:
    """The files of conf/ that `validate` knows."""
    return sorted(path for path in (REPOSITORY / "conf").glob("*.*") if path.suffix != ".lock")
