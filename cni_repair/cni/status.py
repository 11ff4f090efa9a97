"""STATUS: can the network take pods?"""

from __future__ import annotations

from cni_repair.base.errors import (
    LIMITED_CONNECTIVITY,
    NOT_AVAILABLE,
    TRY_AGAIN,
    CniError,
    of_system,
)
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import Store
from cni_repair.cni import absence
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
    here, which have lost theirs; a master that went less than `statusGrace` ago may be on its way
    back, and is no reason yet. Then ask the delegate. Prints nothing."""
    conf = parse(call.stdin)
    missing = why_no_master(conf)
    if missing is None:
        absence.note_present(conf)
    else:
        _forgive(conf, missing)
    pass_on(call, conf)
    return "", 0


def _forgive(conf: NetConf, missing: CniError) -> None:
    """Raise the reason for which there is no master, unless it is a short absence."""
    # (Any other code: something stands in the master's place, which does not go by itself.)
    why = _why_not_forgiven(conf) if missing.code == TRY_AGAIN and conf.status_grace else ""
    if why is None:
        return
    code = LIMITED_CONNECTIVITY if _has_attachments(conf) else NOT_AVAILABLE
    raise CniError(code, missing.msg, "; ".join(filter(None, (missing.details, why))))


def _why_not_forgiven(conf: NetConf) -> str | None:
    """None where the absence is short."""
    try:
        seconds = absence.seconds_away(conf)
    except (CniError, OSError) as error:
        known = error if isinstance(error, CniError) else of_system(error)
        return f"statusGrace does not count, as nobody can tell since when: {known}"
    if seconds is None:
        return "it was never there since the node was booted: statusGrace does not count"
    if seconds < conf.status_grace:
        return None
    return f"away for {seconds:.0f} s, statusGrace is {conf.status_grace:g} s"


def _has_attachments(conf: NetConf) -> bool:
    try:
        with Store(conf.checkpoint_dir) as store:
            return bool(inventory.read_all(store, hints_of(conf), conf.name))
    except FileNotFoundError:
        return False
