"""pyroute2 as its documentation shows it: IPRoute on the node, a NetNS for each pod of the list."""

from __future__ import annotations

import sys
from pathlib import Path

from pyroute2 import IPRoute, NetNS


def _main(pods: list[str]) -> None:
    with IPRoute() as node:
        (master,) = node.link_lookup(ifname="eth0")
        for pod in pods:
            name, _, index, mac, mtu, address, prefix, broadcast, gateway, _ = pod.split()
            node.link(
                "add",
                ifname="eth0",
                kind="macvlan",
                macvlan_mode="bridge",
                link=master,
                index=int(index),
                address=mac,
                mtu=int(mtu),
                txqlen=0,
                net_ns_fd=name,
            )
            # flags: by default it makes a namespace that is missing.
            with NetNS(name, flags=0) as inside:
                inside.link("set", index=int(index), state="up")
                inside.addr(
                    "add",
                    index=int(index),
                    address=address,
                    prefixlen=int(prefix),
                    broadcast=broadcast,
                )
                inside.route("add", dst="default", gateway=gateway, oif=int(index), proto="boot")


_main(Path(sys.argv[1]).read_text().splitlines())
