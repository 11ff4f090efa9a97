"""What a pod has, compared with what its ADD said."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import Netns, inside
from integration.bench.podstate import PodState, pod_state

_LINK_LOCAL = "fe80"


@dataclass(frozen=True)
class WholeState:
    """An interface with the addresses of both families."""

    ipv4: PodState
    ipv6: tuple[str, ...]


def whole_state(pod: Netns) -> WholeState | None:
    """None where there is no interface, or no address on it."""
    state = pod_state(pod)
    return None if state is None else WholeState(state, tuple(_addresses6(pod)))


def _addresses6(pod: Netns) -> list[str]:
    with inside(pod.path):
        lines = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
    words = [line.split() for line in lines]
    return sorted(
        str(ip_interface((int(word[0], 16), int(word[2], 16))))
        for word in words
        if word[5] == "eth0" and not word[0].startswith(_LINK_LOCAL)
    )


@dataclass(frozen=True)
class Given:
    """What an ADD has given, by its Result."""

    mac: str
    addresses: tuple[str, ...]  # with their prefixes

    @property
    def bare(self) -> tuple[str, ...]:
        return tuple(address.partition("/")[0] for address in self.addresses)

    def differs(self, state: WholeState | None) -> str:
        """How a pod's interface is otherwise than this; empty: it is not."""
        if state is None:
            return "no eth0 with an address"
        has = (str(state.ipv4.address), *state.ipv6)
        if state.ipv4.mac != self.mac:
            return f"MAC {state.ipv4.mac} for {self.mac}"
        return "" if set(has) == set(self.addresses) else f"{has} for {self.addresses}"


def given_by(result: dict[str, Any]) -> Given:
    """From a Result of CNI 1.0."""
    (link,) = [one for one in result["interfaces"] if one["name"] == "eth0"]
    return Given(link["mac"], tuple(one["address"] for one in result["ips"]))
