"""What a command is about: which attachments, where their state lives, how to show it."""

from __future__ import annotations

from cni_repair.base.errors import ENVIRONMENT, IO, NO_CHECKPOINT, CniError
from cni_repair.base.files import is_directory, is_there
from cni_repair.base.frozen import frozen
from cni_repair.base.names import bare_id, short_id
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import CHECKPOINT_DIR, Store
from cni_repair.cli.common import RefusedError, UsageError, print_error
from cni_repair.cni.conffile import read_conf
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.netlink.netns import netns_id, netns_id_at
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.planning.plan import FOREIGN
from cni_repair.node.context import Node
from cni_repair.node.examine import examine
from cni_repair.uplink.belongings import NodeRecords

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.cni.netconf import NetConf
    from cni_repair.node.report import Report

    T = TypeVar("T")

_MOST_MEANT, _NEAR = 3, 0.75
_REMEDY = "run it on the node itself (in a container: with hostNetwork and hostPID)"


@frozen
class Scope:
    """Which attachments a command is about, where its state lives, and how to show it."""

    checkpoint_dir: str
    run_dir: str  # empty: as each attachment's own configuration has it
    conf: NetConf | None
    containers: tuple[str, ...]
    json: bool
    again: str  # the options that a next command has to repeat, with a blank before each
    named: bool = False  # the directory was, on the command line

    @property
    def whole_node(self) -> bool:
        """Whether it is about every pod of the node: a selection is about what was selected."""
        return not self.containers and self.conf is None

    @property
    def nothing(self) -> str:
        """Said where there is nothing: a node full of dead pods may look like that, too."""
        network = f" of network {self.conf.name}" if self.conf else ""
        others = "; of all networks: cni-repair status" if self.conf else ""
        return (
            f"no attachments{network} in {self.checkpoint_dir}{others};"
            f" cni-repair adopt{self.again} finds pods that were attached without it"
        )


def conf_of(options: argparse.Namespace) -> NetConf | None:
    """The network configuration that is named, if one is."""
    path = options.conf
    if path and (not is_there(path) or is_directory(path)):
        what = "is a directory" if is_directory(path) else "does not exist"
        raise UsageError(IO, f"{path} {what}", "correct --conf")
    try:
        return read_conf(path) if path else None
    except CniError as error:
        remedy = f"correct it, or --conf; cni-repair validate {quoted(path)} has more"
        details = f"{error.details}; {remedy}" if error.details else remedy
        raise UsageError(error.code, error.msg, details) from error


def scope_of(options: argparse.Namespace) -> Scope:
    """What the common options of a command mean."""
    conf = conf_of(options)
    return Scope(
        checkpoint_dir=options.checkpoint_dir or (conf.checkpoint_dir if conf else CHECKPOINT_DIR),
        run_dir=options.run_dir or (conf.run_dir if conf else ""),
        conf=conf,
        containers=tuple(options.containers),
        json=options.output == "json",
        again=_again(options),
        named=bool(options.checkpoint_dir),
    )


def _again(options: argparse.Namespace) -> str:
    """The options that the next command has to repeat."""
    given = {"--conf": options.conf, "--checkpoint-dir": options.checkpoint_dir}
    given["--run-dir"] = options.run_dir
    return "".join(f" {option} {quoted(value)}" for option, value in given.items() if value)


def examined(scope: Scope, force: bool = False) -> list[Report]:
    """The state of the attachments that are meant, and what would repair them; changes nothing."""

    def work(node: Node, store: Store, entries: list[Entry]) -> list[Report]:
        reports = examine(node, entries, records=NodeRecords(store, entries), force=force)
        check_place(node, reports)
        return reports

    return with_entries(scope, work)


def with_entries(
    scope: Scope,
    work: Callable[[Node, Store, list[Entry]], list[T]],
    begins: bool = False,
    read: Callable[[Node, Store, str], list[Entry]] | None = None,
) -> list[T]:
    """Do `work` with the attachments that are meant; nothing where there is no directory yet.

    Where the command line names that directory, it has to be there, unless the command may well be
    the first on its node (`begins`). `read`: another way to read them, of a network.
    """
    try:
        with Store(scope.checkpoint_dir) as store, Node() as node:
            network = scope.conf.name if scope.conf else ""
            hints = hints_of(scope.conf)
            entries = (
                read(node, store, network) if read else inventory.read_all(store, hints, network)
            )
            _check_is_the_node(node, entries)
            return work(node, store, _chosen(entries, scope))
    except FileNotFoundError as error:
        if scope.named and not begins:
            # A mistyped path must not pass for a node whose pods are all well.
            raise UsageError(
                IO, f"{scope.checkpoint_dir} does not exist", "correct --checkpoint-dir"
            ) from error
        _chosen([], scope)
        print_error(f"{scope.checkpoint_dir} does not exist (yet)")
        return []


def check_place(node: Node, reports: Sequence[Report]) -> None:
    """Refuse to judge pods from a container's network namespace: each would look as if it had made
    its interface itself, which is to be removed. Nothing that looks so is ever touched."""
    if not any(report.state == FOREIGN for report in reports):
        return
    from cni_repair.node.placement import is_beside_the_node  # of no use on most nodes

    if is_beside_the_node(node, reports):
        raise RefusedError(
            ENVIRONMENT, "this is not the node's network namespace: the pods' links say so", _REMEDY
        )


def _check_is_the_node(node: Node, entries: list[Entry]) -> None:
    """Refuse to work inside a pod: its links are not the node's, all masters would be missing. And
    in a container that does not see the pods' namespaces: all pods would be stale."""
    own = netns_id(node.own)
    unseen = []
    for entry in entries:
        identity = entry.identity
        if identity is None:
            continue
        if identity.netns_id == own and identity.boot_id == boot_id():
            pod = _pod_of(entry) or short_id(entry.key.container_id)
            raise RefusedError(
                ENVIRONMENT, f"this is the network namespace of pod {pod}, not the node's", _REMEDY
            )
        if netns_id_at(identity.path) is None:
            unseen.append(entry.checkpoint)
    if unseen:
        _check_sight([checkpoint for checkpoint in unseen if checkpoint is not None])


def _check_sight(unseen: list[Checkpoint]) -> None:
    from cni_repair.node.placement import Hidden, check_sight  # of no use where all pods live

    try:
        check_sight(unseen)
    except Hidden as error:
        raise RefusedError(error.code, error.msg, error.details) from error


def _chosen(entries: list[Entry], scope: Scope) -> list[Entry]:
    """The entries that the named containers mean; all where none is named.

    A pod's name means all its sandboxes (an old one is stale, and never touched); the beginning of
    an id must mean one.
    """
    if not scope.containers:
        return entries
    chosen: list[Entry] = []
    for name in scope.containers:
        found = [entry for entry in entries if _is_meant(entry, name)]
        if not found:
            raise _unknown(name, entries, scope)
        containers = {entry.key.container_id: entry for entry in found}
        if len(containers) > 1 and "/" not in name:
            which = ", ".join(
                f"{short_id(container_id)} ({_pod_of(entry) or 'unnamed'})"
                for container_id, entry in containers.items()
            )
            raise UsageError(NO_CHECKPOINT, f"{name} is ambiguous: {which}", "give more of it")
        chosen += [entry for entry in found if entry not in chosen]
    return chosen


def _unknown(name: str, entries: list[Entry], scope: Scope) -> UsageError:
    meant = _meant_by(name, sorted({_pod_of(entry) for entry in entries}))
    if meant:
        return UsageError(NO_CHECKPOINT, f"no record of {name}", f"did you mean {meant}?")
    unreadable = sum(entry.checkpoint is None for entry in entries)
    details = f"cni-repair status --all{scope.again} lists all pods"
    if unreadable:
        details += f"; {unreadable} of the records cannot be read"
    return UsageError(NO_CHECKPOINT, f"no record of {name}", details)


def _meant_by(name: str, pods: list[str]) -> str:
    """The pods that a name may stand for: without its namespace, or mistyped; empty where none is
    near."""
    found = [pod for pod in pods if pod.endswith(f"/{name}")]
    if not found:
        import difflib  # (which nobody pays for who types well)

        short = {pod if "/" in name else pod.rpartition("/")[2]: pod for pod in pods if pod}
        near = difflib.get_close_matches(name.lower(), short, 1, _NEAR)
        found = [short[one] for one in near]
    return " or ".join(found[:_MOST_MEANT])


def _pod_of(entry: Entry) -> str:
    return str(entry.checkpoint.pod) if entry.checkpoint else ""


def _is_meant(entry: Entry, name: str) -> bool:
    if "/" in name:
        return _pod_of(entry) == name
    container_id = entry.key.container_id
    return container_id.startswith(name) or bare_id(container_id).startswith(name)
