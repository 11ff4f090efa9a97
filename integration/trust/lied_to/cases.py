"""What pods do: a row a case. tests/netns/test_hostile.py does some of it, too.

Nobody of them gets out of its namespace: the kernel lets root there do all of this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cni_repair.demo.lab import GATEWAY
from integration.trust.lied_to.liar import Liar

ATTACHED, LOST = "attached", "lost"


@dataclass(frozen=True)
class Case:
    """One lie."""

    name: str
    lie: Callable[[Liar], object]
    when: str = ATTACHED  # or once the uplink has gone, and eth0 with it
    needs: str = ""  # a kind of link that not every kernel has
    pod_name: Callable[[Liar], str] | None = None  # its name in CNI_ARGS
    is_gateway: bool = False  # it answers for the gateway of the others


def squat(kind: str) -> Callable[[Liar], object]:
    """A link of the pod's own takes the place of the lost eth0."""
    return lambda liar: liar.sh(f"ip link add eth0 type {kind} && ip link set eth0 up")


def squat_over_veth(kind: str) -> Callable[[Liar], object]:
    return lambda liar: liar.sh(
        "ip link add under type veth peer name peer; ip link set under up; ip link set peer up;"
        f" ip link add link under name eth0 type {kind}; ip link set eth0 up"
    )


def own_macvlan_at_our_index(liar: Liar) -> None:
    """With all that a look can see, but whose master it stands on."""
    link = liar.lab.ip_json(liar.pod, "link", "show", "eth0")[0]
    liar.sh(
        "ip link set eth0 down; ip link del eth0;"
        " ip link add under type veth peer name peer; ip link set under up; ip link set peer up;"
        f" ip link add link under name eth0 index {link['ifindex']} address {link['address']}"
        f" mtu {link['mtu']} type macvlan mode bridge; ip link set eth0 up"
    )


def altname_of_own_link(liar: Liar) -> None:
    liar.sh("ip link add squat type bridge; ip link property add dev squat altname eth0")


def another_in_place_of_the_renamed(liar: Liar) -> None:
    liar.sh(
        "ip link set eth0 down; ip link set eth0 name mine; ip link set mine up;"
        " ip link add eth0 type bridge; ip link set eth0 up"
    )


def eth0_in_a_child(liar: Liar) -> None:
    """Its MAC stays taken, where nobody looks."""
    liar.go_on_with(_CHILD, "ip link set eth0 netns {child} && {inside} ip link set eth0 up")


def squatter_from_a_child(liar: Liar) -> None:
    liar.go_on_with(
        _CHILD,
        "{inside} ip link add eth0 type bridge; {inside} ip link set eth0 netns {parent};"
        " {inside} ip link add eth0 type veth peer name far",
    )


# Lives in a namespace of its own below the pod's, and does something from both.
_CHILD = """
import os, subprocess, sys, time
parent = os.getpid()
child = subprocess.Popen(["unshare", "-n", "sleep", "600"])
own = os.stat("/proc/self/ns/net").st_ino
while os.stat(f"/proc/{child.pid}/ns/net").st_ino == own:
    time.sleep(0.01)
inside = f"nsenter --net=/proc/{child.pid}/ns/net"
script = sys.argv[1].format(child=child.pid, parent=parent, inside=inside)
subprocess.run(["sh", "-c", script])
child.wait()
"""


def every_label(liar: Liar) -> None:
    for number, words in enumerate(liar.words.values()):
        liar.label(words.encode(), f"10.88.1.{number + 1}")


def every_altname(liar: Liar) -> None:
    for words in liar.words.values():
        liar.altname(words * 8)


def label_that_is_no_text(liar: Liar) -> None:
    liar.label(b"eth0:\xff\xfe")


def odd_sysctls(liar: Liar) -> None:
    """Names of links are parts of paths there."""
    liar.sh(
        "for name in default all 'a.b' '$(>" + liar.mark + ")'; do"
        ' ip link add "$name" type bridge; done;'
        " cd /proc/sys/net/ipv4/conf/eth0; for file in *; do echo 2147483647 >$file; done;"
        " cd /proc/sys/net/ipv6/conf/eth0 && for file in *; do echo 2 >$file; done"
    )


def address_whose_peer_is_zero(liar: Liar) -> None:
    """The kernel leaves IFA_ADDRESS out of it."""
    liar.sh("ip addr add 10.77.0.1 peer 0.0.0.0/24 dev eth0")


def flood_of_addresses(liar: Liar) -> None:
    count = 20_000 if liar.is_full else 1500  # the kernel walks over all for each
    liar.batch(
        [f"addr add 11.{n >> 14}.{n >> 7 & 127}.{n & 127}/32 dev eth0" for n in range(count)]
    )


def flood_of_routes(liar: Liar) -> None:
    count = 100_000 if liar.is_full else 5000
    liar.batch([f"route add 12.{n >> 16}.{n >> 8 & 255}.{n & 255} dev eth0" for n in range(count)])


def flood_of_hops(liar: Liar) -> None:
    """Of 90 each."""
    count = 900 if liar.is_full else 100
    hops = " ".join(f"nexthop via 10.9.0.{2 + n % 250} dev eth0" for n in range(90))
    liar.batch([f"route add 13.0.{n >> 8}.{n & 255} {hops}" for n in range(count)])


def flood_of_rules(liar: Liar) -> None:
    count = 20_000 if liar.is_full else 4200  # the most that are mirrored are 4096
    liar.batch(
        [f"rule add from 14.{n >> 16}.{n >> 8 & 255}.{n & 255} lookup 99" for n in range(count)]
    )


def flood_of_neighbours(liar: Liar) -> None:
    count = 50_000 if liar.is_full else 1500
    liar.batch(
        [
            f"neigh replace 10.9.{n >> 8 & 255}.{n & 255} lladdr 02:00:00:{n >> 16:02x}:"
            f"{n >> 8 & 255:02x}:{n & 255:02x} nud permanent dev eth0"
            for n in range(count)
        ]
    )


def flood_of_links(liar: Liar) -> None:
    count = 2000 if liar.is_full else 60
    liar.batch([f"link add flood{n} type bridge" for n in range(count)])


def flood_of_altnames(liar: Liar) -> None:
    count = 5000 if liar.is_full else 200
    liar.batch([f"link property add dev eth0 altname {'n' * 100}{n}" for n in range(count)])


def link_changed(liar: Liar) -> None:
    liar.go_on(
        "ip link set eth0 mtu 1400; ip link set eth0 down; ip link set eth0 mtu 1500;"
        " ip link set eth0 up"
    )


def addresses_changed(liar: Liar) -> None:
    liar.go_on(
        "ip addr flush dev eth0; ip addr add 10.9.0.77/24 dev eth0;"
        " ip route add default via 10.9.0.1 dev eth0; ip route flush dev eth0"
    )


def name_changed(liar: Liar) -> None:
    liar.go_on(
        "ip link set eth0 down; ip link set eth0 name moved; ip link set moved up;"
        " ip link set moved down; ip link set moved name eth0; ip link set eth0 up"
    )


def squatter_comes_and_goes(liar: Liar) -> None:
    liar.go_on("ip link add eth0 type bridge; ip link del dev eth0")


def forged_netlink(liar: Liar) -> None:
    """For every netlink socket of the namespace: acknowledgements and ends of dumps, of any
    sequence number that is to come."""
    liar.go_on_with(_FORGED_NETLINK)


_FORGED_NETLINK = """
import errno, os, socket, struct, time
forger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
forger.bind((0, 0))
forger.setblocking(False)
while True:
    time.sleep(0.001)
    with open("/proc/net/netlink") as table:
        ports = [int(line.split()[2]) for line in list(table)[1:] if line.split()[1] == "0"]
    for port in ports:
        if port in (0, forger.getsockname()[0]):
            continue
        for sequence in range(1, 16):
            refused = struct.pack("=IHHIIi", 36, 2, 0, sequence, port, -errno.EPERM)
            done = struct.pack("=IHHIIi", 20, 3, 2, sequence, port, 0)
            for forged in (refused.ljust(36, b"\\0"), done):
                try:
                    forger.sendto(forged, (port, 0))
                except OSError:
                    pass
"""


def takes_the_gateways_address(liar: Liar) -> None:
    liar.sh(f"ip addr add {GATEWAY}/32 dev eth0")


def takes_anothers_address(liar: Liar) -> None:
    assert liar.victim is not None
    link = liar.lab.ip_json(liar.victim, "addr", "show", "eth0")[0]
    address = next(one["local"] for one in link["addr_info"] if one["family"] == "inet")
    liar.sh(f"ip addr add {address}/32 dev eth0")


def takes_anothers_mac(liar: Liar) -> None:
    """(While it is down, nobody keeps it from that.)"""
    assert liar.victim is not None
    mac = liar.lab.ip_json(liar.victim, "link", "show", "eth0")[0]["address"]
    liar.sh(f"ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up")


def forged_arp(liar: Liar) -> None:
    """A packet socket says to a pod that the gateway has a MAC which nobody has."""
    assert liar.victim is not None
    mac = liar.lab.ip_json(liar.victim, "link", "show", "eth0")[0]["address"]
    liar.go_on_with(_FORGED_ARP, "02:66:66:66:66:66", mac, GATEWAY)


_FORGED_ARP = """
import socket, struct, sys, time
mac, victim = (bytes.fromhex(word.replace(":", "")) for word in sys.argv[1:3])
arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac + socket.inet_aton(sys.argv[3]) + victim
while True:
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as forger:
            forger.bind(("eth0", 0))
            while True:
                forger.send(victim + mac + b"\\x08\\x06" + arp + bytes(4))
                time.sleep(0.002)
    except OSError:
        time.sleep(0.05)  # its eth0 is not there just now
"""


def _said(way: str) -> Callable[[Liar], object]:
    return lambda liar: liar.alias(liar.words[way])


def _damaged(liar: Liar) -> None:
    """The pod's name is the lie: `snapshot` offers a command that has it."""
    liar.sh("ip route del default")


CASES = (
    # Somebody else sits where eth0 is to be.
    Case("dummy named eth0", squat("dummy"), LOST, needs="dummy"),
    Case("veth named eth0", squat("veth peer name far"), LOST),
    Case("bridge named eth0", squat("bridge"), LOST),
    Case("macvlan named eth0", squat_over_veth("macvlan mode bridge"), LOST),
    Case("ipvlan named eth0", squat_over_veth("ipvlan"), LOST, needs="ipvlan"),
    Case("own macvlan at our index", own_macvlan_at_our_index),
    Case("altname of an own link", altname_of_own_link, LOST),
    Case("another in place of the renamed", another_in_place_of_the_renamed),
    Case("eth0 in a child namespace", eth0_in_a_child),
    Case("squatter from a child namespace", squatter_from_a_child, LOST),
    Case("squatter comes and goes", squatter_comes_and_goes, LOST),
    # Words.
    Case("alias, unprintable", _said("unprintable")),
    Case("alias, substitution", _said("substitution")),
    Case("alias, lines", _said("lines")),
    Case("alias, escapes", lambda liar: liar.alias("a\n\x1b[31m\x1b]0;x\x07  b\x7f\u202e\x9b1m\n")),
    Case("alias, no text", lambda liar: liar.sh("ip link set eth0 alias \"$(printf 'a\\377b')\"")),
    Case("altnames", every_altname),
    Case("labels", every_label),
    Case("label, no text", label_that_is_no_text),
    Case("sysctls", odd_sysctls),
    Case("pod name, lines", _damaged, pod_name=lambda liar: f"\x01'\n>{liar.mark}\n# 1 healthy"),
    Case("pod name, escapes", _damaged, pod_name=lambda liar: f"\x1b[31m`>{liar.mark}`\x07"),
    Case("pod name, option", _damaged, pod_name=lambda liar: f"$(>{liar.mark}) --force -x"),
    # Too much of everything.
    Case("flood of addresses", flood_of_addresses),
    Case("flood of routes", flood_of_routes),
    Case("flood of next hops", flood_of_hops),
    Case("flood of rules", flood_of_rules),
    Case("flood of neighbours", flood_of_neighbours),
    Case("flood of links", flood_of_links),
    Case("flood of altnames", flood_of_altnames),
    # Other than it was a moment ago.
    Case("link changed in a loop", link_changed),
    Case("addresses changed in a loop", addresses_changed),
    Case("name changed in a loop", name_changed),
    # What others are to believe.
    Case("address whose peer is zero", address_whose_peer_is_zero),
    Case("forged netlink", forged_netlink),
    Case("gateway's address", takes_the_gateways_address, is_gateway=True),
    Case("another pod's address", takes_anothers_address),
    Case("another pod's MAC", takes_anothers_mac),
    Case("forged ARP", forged_arp, is_gateway=True),
)
