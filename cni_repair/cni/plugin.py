"""The plugin's verbs: what each of them requires, and the module that does it.

A pod waits for ADD and DEL, and an outage lasts as long as REPAIR: each verb imports its own module
only when it is called.
"""

from __future__ import annotations

import gc

from cni_repair.cni.call import Verb
from cni_repair.cni.skel import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.call import Call


def run() -> int:
    """Be a CNI plugin for the process's own environment and streams; the exit status."""
    return serve(VERBS)


def _add(call: Call) -> tuple[str, int]:
    from cni_repair.cni.add import add

    return add(call)


def _undo_add(call: Call) -> None:
    from cni_repair.cni.delete import delete

    delete(call)


def _delete(call: Call) -> tuple[str, int]:
    from cni_repair.cni.delete import delete

    return delete(call)


def _check(call: Call) -> tuple[str, int]:
    from cni_repair.cni.check import check

    _collect_garbage()
    return check(call)


def _status(call: Call) -> tuple[str, int]:
    from cni_repair.cni.status import status

    _collect_garbage()
    return status(call)


def _gc(call: Call) -> tuple[str, int]:
    from cni_repair.cni.gc import delete_stale

    _collect_garbage()
    return delete_stale(call)


def _version(call: Call) -> tuple[str, int]:
    from cni_repair.cni.version import version

    return version(call)


def _repair(call: Call) -> tuple[str, int]:
    from cni_repair.cni.repair import repair

    _collect_garbage()
    return repair(call)


def _collect_garbage() -> None:
    """As Python usually does (see __main__): there may be thousands of attachments, and long waits
    for their masters. What was imported is no garbage: the first search in it took 0.7 ms."""
    gc.freeze()
    gc.enable()


# SPEC, "Section 2: Parameters"; REPAIR is our own.
VERBS = {
    "ADD": Verb(_add, ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), undo=_undo_add),
    "DEL": Verb(_delete, ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH")),
    "CHECK": Verb(_check, ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")),
    "STATUS": Verb(_status, ("CNI_PATH",), asks_only=True),
    "GC": Verb(_gc, ("CNI_PATH",)),
    "VERSION": Verb(_version, asks_only=True),
    "REPAIR": Verb(_repair, required_of_one=("CNI_IFNAME",)),
}
