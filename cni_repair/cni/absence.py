"""Since when a network's master has been away: STATUS forgives a short absence (`statusGrace`).

A plugin lives for one call. What the next call has to know stands in the run directory, a document
for each network and its masters: that one of them was there in this boot, or since when none is.
It is written when that changes: by STATUS, and by an ADD that finds no master. The time is that of
the boot (CLOCK_BOOTTIME): nobody sets it.

There is no forgiveness without memory: where the document cannot be read or written, each STATUS
would take itself for the first one, and a node without a network would pass as ready for ever.
"""

from __future__ import annotations

import binascii

from cni_repair.base.errors import CniError
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import Store
from cni_repair.watch import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.cni.netconf import NetConf

_LOCK = "masters"
_LOCK_SECONDS = 10.0  # it is held for a few system calls
_HERE = None  # in the place of a time


def note_present(conf: NetConf) -> None:
    """Remember that the network has its master. Where that cannot be written, the next absence is
    not forgiven; the network can take pods all the same."""
    if not conf.status_grace:
        return
    try:
        if _is_here(_read(conf)):
            return
    except CniError:
        pass  # whatever it is, it is replaced
    try:
        with Lock(conf.run_dir, _LOCK, _LOCK_SECONDS):
            rundir.write(conf.run_dir, _file_of(conf), _document(conf, _HERE))
    except (CniError, OSError):
        pass


def note_away(conf: NetConf) -> None:
    """Remember since when the network has had no master, for the next STATUS."""
    if not conf.status_grace:
        return
    try:
        seconds_away(conf)
    except (CniError, OSError):
        pass


def seconds_away(conf: NetConf) -> float | None:
    """For how long the network's masters have been away, as far as anybody has asked; None where
    none was there in this boot. Raises CniError, or OSError, where that cannot be remembered."""
    known = _read(conf)
    if known is None or _is_here(known):
        with Lock(conf.run_dir, _LOCK, _LOCK_SECONDS):
            known = _read(conf)  # another call may have been the first
            if known is None and not _has_recorded(conf):
                return None
            if known is None or _is_here(known):
                known = _document(conf, rundir.boot_time())
                rundir.write(conf.run_dir, _file_of(conf), known)
    return max(0.0, rundir.boot_time() - float(known["awaySince"]))


def _is_here(document: dict[str, Any] | None) -> bool:
    return document is not None and document["awaySince"] is _HERE


def _read(conf: NetConf) -> dict[str, Any] | None:
    """What was remembered in this boot; None where nothing was. Raises CniError."""
    found = rundir.read(conf.run_dir, _file_of(conf))
    if found is None or found != _document(conf, found.get("awaySince")):
        return None
    since = found["awaySince"]
    is_time = type(since) is float and 0 <= since <= rundir.boot_time()
    return found if since is _HERE or is_time else None


def _document(conf: NetConf, since: Any) -> dict[str, Any]:
    return {
        "bootId": boot_id(),
        "network": conf.name,
        "masters": list(conf.masters),
        "awaySince": since,
    }


def _file_of(conf: NetConf) -> str:
    # (A network's name may be longer than a file's.)
    what = "\0".join((conf.name, *conf.masters)).encode("utf-8", "surrogatepass")
    return f"master-{binascii.crc32(what):08x}"


def _has_recorded(conf: NetConf) -> bool:
    """Whether a pod was attached in this boot over one of the network's masters, and is still
    there: nobody may have asked for STATUS before."""
    try:
        with Store(conf.checkpoint_dir) as store:
            files = store.committed()
            return any(_is_of(conf, inventory.read_file(store, name)) for name in files)
    except FileNotFoundError:
        return False


def _is_of(conf: NetConf, entry: inventory.Entry | None) -> bool:
    record = entry.checkpoint if entry else None
    if record is None or record.netns is None or record.network != conf.name:
        return False
    below = {name for link in record.attachment.parents for name in (link.name, *link.altnames)}
    is_over_one = not conf.masters or not below.isdisjoint(conf.masters)
    return record.netns.boot_id == boot_id() and is_over_one
