"""What to do next, below a command's table: each line ends in an action that leads on.

The node's links come first: while one is missing, no repair of its pods can succeed.
"""

from __future__ import annotations

import os
import re

from cni_repair.base.names import short_id
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.planning.plan import DEGRADED, FOREIGN, LOST, RELEASED, RENAMED, STALE
from cni_repair.node.masters import BONDS, DOWN, NO_CARRIER, MasterTroubles
from cni_repair.node.report import UNREADABLE
from cni_repair.uplink.plan import MISSING, REFUSED
from cni_repair.uplink.plan import RENAMED as RENAMED_CARD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_repair.cli.scope import Scope
    from cni_repair.network.model import HostLink
    from cni_repair.node.masters import Trouble
    from cni_repair.node.report import Report

_PCI_DEVICES = "/sys/bus/pci/devices"
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_REPAIR = "cni-repair repair --all{again}"
# Of a link that is there; the plan's remedy says what to do.
_AMISS = {
    REFUSED: "is another link now",
    RENAMED_CARD: "has another name now",
    MISSING: "has too small an MTU",
}
_VERIFY = "cni-repair verify{again}"
_OTHERS = {
    STALE: "stale: of pods that are no more: no failure, and never repaired\n"
    "  next: nothing (the runtime's DEL or GC removes the record),\n"
    "        or cni-repair forget --stale{again}",
    FOREIGN: "foreign: another link has the name of the pod's interface: never touched\n"
    "  next: make way for it, by the command at the end of the reason,\n"
    "        then " + _REPAIR + "; or delete the pod",
    RENAMED: "renamed: the pod has its interface, under another name: no failure, not touched\n"
    "  next: nothing; verify does not test it",
    RELEASED: "released: the address was freed: not made again, another pod may have it by now\n"
    "  next: delete the pod; or, if nobody has the address, or will be given it:\n"
    "        cni-repair repair --force{again} {pod}",
    UNREADABLE: "unreadable: that pod cannot be repaired until its record can be read\n"
    "  next: of a wrong owner or mode, where nobody has changed the file:\n"
    "        chown 0:0 {file}\n"
    "        chmod 0600 {file}\n"
    "        else restore it from a backup, or move it away:\n"
    "        mv {file} /root/\n"
    "        then cni-repair adopt --write{again}; or delete the pod",
}


def unwell(reports: Iterable[Report]) -> list[Report]:
    """Those of living pods that a link of the node may be the cause of."""
    return [report for report in reports if report.state in (LOST, DEGRADED)]


def troubles_of(reports: Iterable[Report]) -> MasterTroubles | None:
    """What is wrong, now, with the masters of `reports`; None where there are none."""
    checkpoints = [one.checkpoint for one in reports if one.checkpoint is not None]
    if not checkpoints:
        return None
    with Rtnetlink() as rtnl:
        return MasterTroubles(rtnl, checkpoints)


def advice(reports: Sequence[Report], scope: Scope, repaired: bool = False) -> list[str]:
    """The lines for what was found, or (`repaired`) is left after a repair."""
    troubles = troubles_of(unwell(reports))
    return [*of_node(troubles, reports, scope), *of_pods(troubles, reports, scope, repaired)]


def of_node(troubles: MasterTroubles | None, reports: Sequence[Report], scope: Scope) -> list[str]:
    """The lines for the node's links: each once, whatever its pods lack by that."""
    unwell_states = {report.state for report in unwell(reports)}
    lines = []
    for trouble in troubles.all() if troubles else []:
        # Pods that lack carrier, and nothing else, have it back with the link.
        only_carrier = trouble.what == NO_CARRIER and LOST not in unwell_states
        then = _VERIFY if only_carrier or not unwell_states else _REPAIR
        lines += of_master(trouble, then.format(again=scope.again))
    return lines


def of_pods(
    troubles: MasterTroubles | None,
    reports: Sequence[Report],
    scope: Scope,
    repaired: bool = False,
) -> list[str]:
    """The lines for what has another cause than a link of the node."""
    again = scope.again
    lines = []
    in_reach = [report for report in reports if _is_in_reach(report, troubles)]
    if in_reach:
        lines += _to_repair(in_reach, again, repaired)
    for state, words in _OTHERS.items():
        of_state = [report for report in reports if report.state == state]
        if of_state:
            pod, file = _meant(of_state), _file_of(of_state, scope.checkpoint_dir)
            lines += [line.format(again=again, pod=pod, file=file) for line in words.splitlines()]
    return lines


def _meant(reports: Sequence[Report]) -> str:
    """A pod, as a command takes it: the only one, or a name to be filled in."""
    pods = {report.pod or short_id(report.key.container_id) for report in reports}
    return quoted(pods.pop()) if len(pods) == 1 else "NAMESPACE/NAME"


def _file_of(reports: Sequence[Report], directory: str) -> str:
    """The record's file, to be pasted: the only one, by a pattern for the shell, or FILE."""
    if len(reports) > 1:
        return "FILE"
    (report,) = reports
    container, ifname = report.key.container_id, quoted(report.key.ifname)
    short = short_id(container)
    before = "" if container.startswith(short) else "*"  # nerdctl's
    after = f"*@{ifname}.json" if short != container else "*"  # (the predecessor's have no more)
    return f"{quoted(directory)}/{before}{short}{after}"


def _is_in_reach(report: Report, troubles: MasterTroubles | None) -> bool:
    """Whether it is the pod itself that something is wrong with."""
    if report.state not in (LOST, DEGRADED) or report.checkpoint is None or troubles is None:
        return False
    return troubles.of(report.checkpoint) is None


def _to_repair(reports: Sequence[Report], again: str, repaired: bool) -> list[str]:
    repair = _REPAIR.format(again=again)
    if repaired:
        return [
            "not repaired, though the node's links are there: see the reason",
            "  next: do what it says (cni-repair help on-call has more),",
            f"        then {repair}",
        ]
    lines = []
    if any(report.state == LOST for report in reports):
        lines += [
            "lost: the node's links are there, only the pods' interfaces are gone",
            f"  next: {repair}",
            f"        (cni-repair plan{again} shows how)",
        ]
    degraded = [report for report in reports if report.state == DEGRADED]
    if any(report.actions for report in degraded):
        lines += [
            "degraded: a repair puts right what is missing or changed, nothing else",
            f"  next: {repair}",
        ]
    if any(not report.actions for report in degraded):
        lines += [
            "degraded, and no repair can mend it: the reason names what is in the way",
            "  next: do what it says (cni-repair help on-call has more),",
            f"        then cni-repair status{again}",
        ]
    return lines


# --- The node's links ---


def of_master(trouble: Trouble, then: str) -> list[str]:
    """What is wrong with a link of the node, and how to put it right; `then` is what follows."""
    link, count = trouble.link, trouble.pods
    where = f" (PCI {link.bus_address})" if _is_pci(link) else ""
    name = f"the node's {trouble.name}{where}"
    on_it = f"{count} pod interface{'' if count == 1 else 's'} on it"
    if trouble.what == MISSING and not trouble.remedy:
        steps = [f"{name} is missing; {on_it}", *_bring_back(link)]
    elif trouble.what == DOWN:
        steps = [f"{name} is down; {on_it}", f"ip link set dev {quoted(trouble.name)} up"]
    elif trouble.what == NO_CARRIER:
        steps = [f"{name} has no carrier; {on_it}", *_giving_carrier(trouble)]
    else:
        steps = [f"{name} {_AMISS[trouble.what]}; {on_it}", *trouble.remedy]
    what, first, *more = [*steps, f"then {then}"]
    return [what, f"  next: {first}", *(f"        {line}" for line in more)]


def _giving_carrier(trouble: Trouble) -> list[str]:
    """A bond has no cable: what is in it has, or nothing is in it since a driver was reloaded."""
    if trouble.link.kind not in BONDS:
        return [f"see to its cable and its switch port (ethtool {quoted(trouble.name)}),"]
    bond = quoted(trouble.name)
    if not trouble.legs:
        return [
            f"no NIC is in that {trouble.link.kind}; for each of its NICs:",
            f"ip link set dev NIC down; ip link set dev NIC master {bond}",
        ]
    down = [leg for leg in trouble.legs if not leg.up]
    if down:
        return [f"ip link set dev {quoted(leg.name)} up" for leg in down]
    return [
        f"see to the cables and switch ports of what is in {bond}:",
        *(f"ethtool {quoted(leg.name)}" for leg in trouble.legs),
    ]


def _bring_back(link: HostLink) -> list[str]:
    if _is_pci(link):
        device = f"{_PCI_DEVICES}/{link.bus_address}"
        if not os.path.exists(device):
            return [
                "the card itself is not there (lspci): is it in, is it on?",
                "have the kernel look again: echo 1 > /sys/bus/pci/rescan",
            ]
        return ["load its NIC driver:", f"modprobe $(cat {device}/modalias)"]
    if not link.kind:
        return ["load its NIC driver (modprobe NAME; lspci -k names it),"]
    return [
        f"have the node's network service make it again ({link.kind}):",
        "systemctl restart networking, or systemd-networkd, or NetworkManager",
    ]


def _is_pci(link: HostLink) -> bool:
    return _PCI_ADDRESS.fullmatch(link.bus_address or "") is not None
