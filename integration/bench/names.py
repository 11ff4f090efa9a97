"""What is measured, and by whom: the words of tables, JSON and chart."""

from __future__ import annotations

ADD, DEL = "ADD", "DEL"
ADD_PARALLEL, DEL_PARALLEL = "ADD, 8 at once", "DEL, 8 at once"
REPAIR = "repair, all lost"
REPAIR_ARMED = "repair, all lost, armed"
FIRED = "fired, from the master's return"
REPAIR_IPV6 = "repair, all lost, IPv6, too"
FIRST_REPLY = "first reply, from the repair's start"  # its family follows
TEN = "repair, 10 lost"
NOTHING_LOST = "repair, nothing lost"
STATUS = "status"
HOSTILE = "hostile pod"  # its routes follow
START = "start"

PARALLEL = 8

BARE = "macvlan plugin"
OURS = "cni-repair"
VERB = "cni-repair, CNI verb"
COMMAND = "cni-repair, command"
BY_KERNEL = "cni-repair, command, ipv6Detection: kernel"
SHELL = "nine commands a pod"
BATCH = "ip -batch"
PYROUTE2 = "pyroute2"
FLOOR = "C, the floor"

# What is started.
NOTHING = "true, in the same way"
INSTALLED = "install.sh"
DEB = ".deb, Debian 12's Python"
BUNDLE = "bundle, its own Python and libc"

# The same peer a second time, as if it were another: how far two medians are apart that should be
# the same is the machine's noise.
_AGAIN = " (again)"


def again(peer: str) -> str:
    return peer + _AGAIN


def first(peer: str) -> str:
    return peer.removesuffix(_AGAIN)


# cni-repair of another checkout (`--against`), measured in turns with this one.
_EARLIER = " (before)"


def earlier(peer: str) -> str:
    return peer + _EARLIER
