"""REPAIR: one attachment, those of a network, or all of the node.

The outage lasts as long as it does: nothing is imported that only other verbs need.
"""

from __future__ import annotations

from cni_repair.base.errors import (
    ADDRESS_GONE,
    FOREIGN,
    NO_CHECKPOINT,
    REPAIR_FAILED,
    STALE,
    CniError,
)
from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import CHECKPOINT_DIR, Key, Store
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.cni.netconf import MASTER_TIMEOUT_SECONDS, VERSIONS, NetConf, parse
from cni_repair.network.planning import plan as planning
from cni_repair.node.context import Node
from cni_repair.node.report import Report, document
from cni_repair.repair.armed.index import Indexed
from cni_repair.repair.scheduler import repair_and_log, usable_processors
from cni_repair.repair.session import RepairOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint import model
    from cni_repair.cni.call import Call

_ERROR_OF_STATE = {
    planning.STALE: STALE,
    planning.FOREIGN: FOREIGN,
    planning.RELEASED: ADDRESS_GONE,
}


def repair(call: Call) -> tuple[str, int]:
    """Repair, and print the attachment's Result, or a report of all."""
    conf = parse(call.stdin) if call.stdin.strip() else None
    directory = conf.checkpoint_dir if conf else CHECKPOINT_DIR
    options = (
        options_of(call, conf)
        if conf
        else RepairOptions("", MASTER_TIMEOUT_SECONDS, netns=call.netns)
    )
    try:
        with Store(directory) as store, Node() as node:
            if call.container_id:
                return _repair_one(call, conf, node, store, options)
            return _repair_many(conf, node, store, options)
    except FileNotFoundError as error:
        if call.container_id:
            raise _no_checkpoint(call, directory) from error
        return dumps(document([], conf.cni_version if conf else VERSIONS[-2])), 0


def _no_checkpoint(call: Call, directory: str) -> CniError:
    return CniError(
        NO_CHECKPOINT,
        f"no checkpoint of {call.ifname} of container {call.container_id}",
        f"looked in {directory}",
    )


def _repair_one(
    call: Call, conf: NetConf | None, node: Node, store: Store, options: RepairOptions
) -> tuple[str, int]:
    key = Key(call.container_id, call.ifname)
    entry = inventory.read_one(store, key, options.hints)
    reports = repair_and_log(node, store, [entry], options) if entry else []
    if not reports:
        raise _no_checkpoint(call, store.directory)
    (report,) = reports
    if report.state != planning.RENAMED:  # it has its interface: there is nothing to repair
        error = why_not_healthy(report, REPAIR_FAILED)
        if error is not None:
            error.logged = True
            raise error
    assert report.checkpoint is not None
    return dumps(_result(report.checkpoint, conf)), 0


def _result(checkpoint: model.Checkpoint, conf: NetConf | None) -> dict[str, Any]:
    """As ADD would print it."""
    from cni_repair.cni.result import convert  # of many there is none to be printed

    return convert(checkpoint.result, _version_for(checkpoint, conf))


def _version_for(checkpoint: model.Checkpoint, conf: NetConf | None) -> str:
    if conf is not None:
        return conf.cni_version
    recorded = checkpoint.result.get("cniVersion")
    if recorded in VERSIONS:
        return str(recorded)
    from cni_repair.cni.result import BY_FAMILY, is_by_family

    # The predecessor's plugins named no version, nor did those of CNI 0.1.0.
    return BY_FAMILY[-1] if is_by_family(checkpoint.result) else "0.3.0"


def _repair_many(
    conf: NetConf | None, node: Node, store: Store, options: RepairOptions
) -> tuple[str, int]:
    # CNI_NETNS means one attachment; for many, each has its own.
    options = replace(options, netns="", processors=usable_processors())
    with Indexed(node, store, options, conf.name if conf else "") as indexed:
        reports = repair_and_log(node, store, indexed.entries, indexed.options)
    text = dumps(document(reports, conf.cni_version if conf else VERSIONS[-2]))
    return text, 1 if any(report.damaged for report in reports) else 0


def options_of(call: Call, conf: NetConf) -> RepairOptions:
    return RepairOptions(
        conf.run_dir,
        conf.master_timeout,
        hints_of(conf),
        call.netns,
        ipv6_detection=conf.ipv6_detection,
    )


def raise_unless_healthy(report: Report, code: int) -> None:
    error = why_not_healthy(report, code)
    if error is not None:
        raise error


def why_not_healthy(report: Report, code: int) -> CniError | None:
    """The answer to a caller who has asked for one attachment; `code` where nothing says better."""
    if report.healthy or report.error is not None:
        return report.error
    return CniError(
        _ERROR_OF_STATE.get(report.state, code),
        f"{report.key.ifname} of container {report.key.container_id} is {report.state}",
        report.reason,
    )
