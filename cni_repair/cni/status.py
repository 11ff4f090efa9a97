"""STATUS: can the network take pods?"""

from __future__ import annotations

from cni_repair.base.errors import LIMITED_CONNECTIVITY, NOT_AVAILABLE, CniError
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import Store
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.cni.master import why_no_master
from cni_repair.cni.netconf import parse
from cni_repair.cni.version import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.call import Call
    from cni_repair.cni.netconf import NetConf


def status(call: Call) -> tuple[str, int]:
    """Fail with code 50 while ADD would find no master, with 51 if pods of the network are recorded
    here, which have lost theirs; then ask the delegate. Prints nothing."""
    conf = parse(call.stdin)
    missing = why_no_master(conf)
    if missing is not None:
        code = LIMITED_CONNECTIVITY if _has_attachments(conf) else NOT_AVAILABLE
        raise CniError(code, missing.msg, missing.details)
    pass_on(call, conf)
    return "", 0


def _has_attachments(conf: NetConf) -> bool:
    try:
        with Store(conf.checkpoint_dir) as store:
            return bool(inventory.read_all(store, hints_of(conf), conf.name))
    except FileNotFoundError:
        return False
