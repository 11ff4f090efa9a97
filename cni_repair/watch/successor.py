"""Whether systemd starts another watcher as soon as this one has ended."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.procfs import cgroups_in
from cni_repair.upgrade.command import call
from cni_repair.upgrade.kubelet import booted_with_systemd


def another_comes(is_asked_to_end: bool) -> bool:
    """Whether it does, as far as can be told: this one's end is a part of `systemctl restart`, or
    nobody has asked for it and the unit is one that is started again."""
    unit = _own_unit()
    if not unit or not booted_with_systemd():
        return False
    try:
        if is_asked_to_end:
            # Until all of the old one has ended the job is "restart", then it becomes "start".
            return "restart" in call(["systemctl", "list-jobs", "--no-legend", unit]).split()
        shown = call(["systemctl", "show", "--value", "--property=Restart", unit])
        return shown.strip() in ("always", "on-failure")
    except CniError:
        return False


def _own_unit() -> str:
    """The service that we are; empty where we are none."""
    for line in cgroups_in("/proc/self").splitlines():
        name = line.rpartition("/")[2]
        if name.endswith(".service"):
            return name
    return ""
