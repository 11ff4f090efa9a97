"""CHECK: is the attachment as it was recorded?"""

from __future__ import annotations

from cni_repair.base.errors import DAMAGED, CniError
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import Key, Store
from cni_repair.cni import delegate
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.cni.master import likely_master
from cni_repair.cni.netconf import BEFORE_CHECK, parse
from cni_repair.cni.repair import options_of, raise_unless_healthy
from cni_repair.network.planning.plan import RENAMED
from cni_repair.node.context import Node
from cni_repair.node.examine import examine
from cni_repair.node.refresh import refresh
from cni_repair.node.verdict import parents_of
from cni_repair.repair.scheduler import repair_and_log
from cni_repair.uplink.ensure import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.cni.call import Call
    from cni_repair.cni.netconf import NetConf


def check(call: Call) -> tuple[str, int]:
    """Ask the delegate, then compare with the record; prints nothing.

    With `repairOnCheck`, what is lost or degraded is repaired first. For an attachment without a
    record (made before cni-repair was installed), the delegate's answer is all. What later plugins
    have added to a healthy attachment since ADD is taken into its record.
    """
    conf = parse(call.stdin, tolerant=True)
    if conf.cni_version in BEFORE_CHECK:
        _ask_delegate(call, conf)  # which says so
    key = Key(call.container_id, call.ifname)
    try:
        with Store(conf.checkpoint_dir) as store, Node() as node:
            entry = inventory.read_one(store, key, hints_of(conf))
            if entry is not None and conf.repair_on_check:
                repair_and_log(node, store, [entry], options_of(call, conf))
            try:
                _ask_delegate(call, conf, _recorded_master(node, entry))
            except CniError:
                if entry is not None:
                    _raise_if_renamed(node, entry, call.netns)
                raise
            if entry is not None:
                (report,) = examine(node, [entry], call.netns)
                raise_unless_healthy(report, DAMAGED)
                _refresh(call, conf, node, store, entry)
    except FileNotFoundError:  # there is no checkpoint directory
        _ask_delegate(call, conf)
    return "", 0


def _raise_if_renamed(node: Node, entry: Entry, given_netns: str) -> None:
    """The delegate knows an interface by its name only, and says that there is none."""
    (report,) = examine(node, [entry], given_netns)
    if report.state == RENAMED:
        raise_unless_healthy(report, DAMAGED)


def _recorded_master(node: Node, entry: Entry | None) -> str | None:
    """The name that the recorded master has now; None where there is none.

    The configuration does not tell: a pod may have been moved (`fallbackMaster`), another of its
    masters may have come since, or somebody has edited it.
    """
    if entry is None or entry.checkpoint is None:
        return None
    _, master = look(node.rtnl, *parents_of(entry.checkpoint))
    return master.name if master else None


def _ask_delegate(call: Call, conf: NetConf, master: str | None = None) -> None:
    netconf = conf.for_delegate(master or likely_master(conf))
    delegate.call(conf.delegate, call.environ, netconf)


def _refresh(call: Call, conf: NetConf, node: Node, store: Store, entry: Entry) -> None:
    try:
        refresh(node, store, conf.run_dir, entry, call.netns)
    except CniError:
        pass  # the older record is still whole, and CHECK's answer does not depend on a newer one
