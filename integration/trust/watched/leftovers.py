"""What is on a node beyond its pods: nothing, once all that worked there has ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cni_repair.demo.lab import Lab
from cni_repair.network.model import TEMPORARY

_IFNAME = "eth0"


def leases(lab: Lab) -> dict[str, str]:
    """Addresses that host-local has given away: address to container id."""
    found = {}
    for path in Path(lab.ipam_dir).glob("pods/*"):
        if path.name != "lock" and not path.name.startswith("last_reserved_ip"):
            try:
                found[path.name] = path.read_text().split("\n")[0]
            except FileNotFoundError:
                continue  # freed meanwhile
    return found


def leftovers(lab: Lab, pods: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What is there beyond these pods (container id to addresses), and what of theirs is not."""
    addresses = {f"{address} of {name}" for name, all_ in pods.items() for address in all_}
    given = {f"{address} of {name}" for address, name in leases(lab).items()}
    records = {f"{name}@{_IFNAME}.json" for name in pods}
    locks = {f"{name}@{_IFNAME}.lock" for name in pods}
    left = {name for name in _files(lab.run_dir) if "@" in name} - locks
    links = {link["ifname"] for link in lab.ip_json(lab.node, "link", "show")}
    return [
        *_differences("address", addresses, given),
        *_differences("record", records, _files(lab.checkpoint_dir)),
        *(f"left over in the run directory: {name}" for name in sorted(left)),
        *(f"temporary link {name}" for name in sorted(links) if name.startswith(TEMPORARY)),
    ]


def _differences(what: str, wanted: set[str], there: set[str]) -> list[str]:
    return [
        *(f"{what} left over: {one}" for one in sorted(there - wanted)),
        *(f"{what} lost: {one}" for one in sorted(wanted - there)),
    ]


def _files(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def inodes(*directories: str, pattern: str = "*") -> int:
    """How many files and directories with such names there are below these."""
    return sum(1 for directory in directories for _ in Path(directory).rglob(pattern))
