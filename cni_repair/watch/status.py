"""What the watcher knows, written down for whoever asks: and who is the node's watcher.

The daemon writes its status after every change, and every WRITE_SECONDS where nothing changes, so
that one that hangs can be told from one that has nothing to do.
"""

from __future__ import annotations

import contextlib
from typing import Any, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from cni_repair.base.errors import IO, TRY_AGAIN, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint.locks import Lock, is_held
from cni_repair.node.report import DOCUMENT_VERSION
from cni_repair.watch import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "watch.json"
WRITE_SECONDS = 10.0
HUNG_SECONDS = 30.0
_LOCK = "watch"
_LOCK_SECONDS = 0.5  # `--status` holds it for a moment

# How a node's watcher stands.
RUNNING = "running"
HUNG = "hung"  # it is there, and has not been heard of for HUNG_SECONDS
DEAD = "dead"  # there was one in this boot
NONE = "none"  # there was none


class Master(TypedDict):
    """A link that pods stand on."""

    name: str
    up: bool  # it is there, and set up
    carrier: bool
    awaySince: float | None  # Unix time; None: it is there
    attachments: int
    armed: int


class Heals(TypedDict):
    """Since the watcher began."""

    total: int  # attachments that were brought back
    failed: int  # that were not: each time that it was tried
    lastAt: float | None  # Unix time
    lastOutageMs: int | None  # of the last attachment that was brought back


class Refused(TypedDict):
    """A pod that is not tried again until something about it changes."""

    containerID: str
    ifname: str
    pod: str
    state: str
    reason: str


class KubeletHeld(TypedDict):
    held: bool
    since: float | None  # Unix time


class Damaged(TypedDict):
    """Attachments of pods that lack their network, or a part of it (problems.WITHOUT_NETWORK)."""

    uplinkUp: int  # though all that they stand on is there, up and with carrier
    uplinkDown: int


class Coverage(TypedDict):
    restorable: int
    interfaces: int  # of the node's pods, over links of the node


class ToldCluster(TypedDict):
    """What the API server of the node's cluster was told."""

    node: str  # by the name that it has there; empty: nobody is told, or was yet
    condition: str | None  # the status of PodNetworkLost: True, False, Unknown
    at: float | None  # Unix time
    trouble: str  # why it could not be told the last time; empty: it could


class _OfLaterVersions(TypedDict, total=False):
    """What not every watcher's status has: one of an older version may still run."""

    kubernetes: ToldCluster


class Status(_OfLaterVersions):
    """What the daemon hands to :func:`write_status`; cli/schema/watch-status.json describes it."""

    pid: int
    since: float  # Unix time
    config: str  # the file that it goes by; empty: the defaults
    mode: str  # see policy
    reason: str
    heal: str
    lastLook: float | None  # Unix time of the last look at all pods
    attachments: dict[str, int]  # by state
    byNetwork: dict[str, dict[str, int]]
    damaged: Damaged
    masters: list[Master]
    armed: int
    heals: Heals
    refused: list[Refused]
    kubelet: KubeletHeld
    unmanaged: int  # pod interfaces without a record
    coverage: Coverage


class _Written(Status):
    """A status on disk: with what tells how old it is."""

    schemaVersion: int
    updated: float  # seconds since boot


@frozen
class Standing:
    """What there is to be known of a node's watcher."""

    name: str  # RUNNING, HUNG, DEAD or NONE
    document: dict[str, Any] | None  # its last status, as on disk; None where there is none
    seconds_old: float  # of that document


class NotFirst(CniError):
    """Another watcher is at work on this node."""


def write_status(run_dir: str, status: Status) -> None:
    """Replace the watcher's status. Raises CniError."""
    document = {
        "schemaVersion": DOCUMENT_VERSION,
        "bootId": boot_id(),
        "updated": rundir.boot_time(),
        **status,
    }
    rundir.write(run_dir, NAME, document)


def read_status(run_dir: str) -> Standing:
    """How the node's watcher stands, and its last status of this boot. Raises CniError where nobody
    can tell."""
    is_there = is_running(run_dir)
    document = rundir.read(run_dir, NAME)
    if document is None or document.get("bootId") != boot_id():
        # (Between its lock and its first status a watcher is there already.)
        return Standing(RUNNING if is_there else NONE, None, 0.0)
    _check(document, run_dir)
    seconds_old = max(0.0, rundir.boot_time() - document["updated"])
    if not is_there:
        return Standing(DEAD, document, seconds_old)
    return Standing(HUNG if seconds_old > HUNG_SECONDS else RUNNING, document, seconds_old)


def _check(document: dict[str, Any], run_dir: str) -> None:
    if document.get("schemaVersion") != DOCUMENT_VERSION or not _fits(document, _Written):
        raise CniError(
            IO,
            f"{run_dir}/{NAME} is of another version of cni-repair",
            "restart the watcher: systemctl restart cni-repair-watch",
        )


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of a kind that annotations name. (jsonschema would take 75 ms.)"""
    if is_typeddict(kind):
        return isinstance(value, dict) and all(
            _fits(value[name], inner) if name in value else name not in kind.__required_keys__
            for name, inner in get_type_hints(kind).items()
        )
    inner = get_args(kind)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if inner:  # a union
        return any(_fits(value, one) for one in inner)
    return type(value) is kind or (kind is float and type(value) is int)


@contextlib.contextmanager
def first_watcher(run_dir: str) -> Iterator[Lock]:
    """A context in which this process is the node's watcher, by this lock. Raises NotFirst where
    another is."""
    lock = Lock(run_dir, _LOCK, _LOCK_SECONDS)
    try:
        lock.__enter__()
    except CniError as error:
        if error.code != TRY_AGAIN:
            raise
        raise NotFirst(
            TRY_AGAIN,
            f"another watcher is at work on this node{_who(run_dir)}",
            "cni-repair watch --status shows it; systemctl stop cni-repair-watch ends it",
        ) from error
    try:
        yield lock
    finally:
        lock.close()


def _who(run_dir: str) -> str:
    try:
        document = rundir.read(run_dir, NAME) or {}
    except CniError:
        return ""
    is_now = document.get("bootId") == boot_id() and isinstance(document.get("pid"), int)
    return f" (PID {document['pid']})" if is_now else ""


def is_running(run_dir: str) -> bool:
    """Whether a watcher is at work on this node. Raises CniError where nobody can tell."""
    return is_held(run_dir, _LOCK)
