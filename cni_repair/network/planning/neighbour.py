"""Planning the permanent neighbours and proxy entries of a pod's interface. Pure."""

from __future__ import annotations

from cni_repair.network.model import Attachment
from cni_repair.network.observed import Observed
from cni_repair.network.operations.neighbour import SetNeighbour
from cni_repair.network.planning.drift import Drift


def neighbour_drifts(desired: Attachment, observed: Observed) -> list[Drift]:
    """Permanent neighbours and proxy entries that are missing; and changed ones."""
    there = {entry.key: entry for entry in observed.neighbours}
    drifts = []
    for wanted in desired.neighbours:
        found = there.get(wanted.key)
        kind = "permanent neighbour" if wanted.mac else "proxy entry"
        step = SetNeighbour(desired.ifname, wanted)
        if found is None:
            drifts.append(Drift(f"{kind} {wanted.address} is missing", step))
        elif desired.settled and found != wanted:
            what = f"has MAC {found.mac}, it had {wanted.mac}"
            what = what if found.mac != wanted.mac else "has other flags"
            drifts.append(Drift(f"{kind} {wanted.address} {what}", step))
    return drifts
