"""`adopt`: checkpoints for pods that were attached without us."""

from __future__ import annotations

import os

from cni_repair.adoption import verdict as adopting
from cni_repair.adoption.adopt import Adopter
from cni_repair.adoption.caches import CACHE_DIRS, read_caches, read_legacy
from cni_repair.adoption.candidates import candidates
from cni_repair.adoption.examine import Options
from cni_repair.adoption.verdict import Adoption, Configured
from cni_repair.base import log
from cni_repair.base.columns import Row, table_of
from cni_repair.base.errors import CONFIG, IO, CniError
from cni_repair.base.files import is_directory, is_there
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import short_id, title_of
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint.store import Store
from cni_repair.cli.common import DAMAGED, INTERRUPTED, UsageError, print_error
from cni_repair.cli.coverage import UNMANAGED
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.scope import scope_of
from cni_repair.cni import netconf
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.node.context import Node
from cni_repair.node.report import DOCUMENT_VERSION, UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from cni_repair.adoption.caches import Unreadable
    from cni_repair.cli.scope import Scope
    from cni_repair.cni.netconf import NetConf
    from cni_repair.node.discovery import Unmanaged

# What REPAIR reads of an attachment's configuration; the macvlan plugin's says none of it.
_REPAIRS_KEYS = (
    "followRenamedMaster", "fallbackMaster", "probeBeforeRepair", "ipv6Detection", "master",
    "master2", "vlanId", "vlanID",
)  # fmt: skip
_CACHE_DIR = "name the runtime's cache with --cache-dir, or have the pod made anew"
_COLUMNS = ("STATE", "POD", "CONTAINER", "IFNAME", "MASTER", "ADDRESSES")
_STATES = (
    adopting.ADOPTED,
    adopting.ADOPTABLE,
    adopting.RECORDED,
    adopting.SKIPPED,
    adopting.REFUSED,
    adopting.FAILED,
    adopting.REMOVED,
    adopting.LEFTOVER,
    adopting.GONE,
)
# What `--write` makes, or removes.
_FOR_WRITE = (adopting.ADOPTABLE, adopting.LEFTOVER)

_WORDS = {adopting.RECORDED: "already recorded"}


@frozen
class Found:
    """All that there is to say."""

    adoptions: list[Adoption]
    unreadable: list[Unreadable]
    unmanaged: list[Unmanaged]  # no file speaks of them

    @property
    def complete(self) -> bool:
        """Whether all is adopted that should be."""
        failed = any(one.failed for one in self.adoptions)
        return not (failed or self.unreadable or self.unmanaged)


def run(options: argparse.Namespace) -> int:
    """Commit, or say what would be committed; 0 if that is all that should be."""
    _check_caches(options.cache_dir or ())
    scope = scope_of(options)
    directories = tuple(options.cache_dir or CACHE_DIRS)
    try:
        found = _work(scope, directories, options.write)
    except KeyboardInterrupt:
        print_error("interrupted; what was adopted stays adopted, call again for the rest")
        return INTERRUPTED
    if scope.json:
        print(dumps(document(found, options.write)))
    else:
        _show(found, directories)
        if any(one.state == adopting.ADOPTED and one.lost for one in found.adoptions):
            say(f"lost: cni-repair repair --all{scope.again} brings them back")
        if not options.write:
            would = any(one.state in _FOR_WRITE for one in found.adoptions)
            write = f"cni-repair adopt --write{_again(options, scope)}"
            then = f"; {write} commits" if would else ", and --write would write nothing, either"
            say(f"dry run: nothing was written{then}")
    return 0 if found.complete else DAMAGED


def _check_caches(directories: Sequence[str]) -> None:
    """Refuse a directory that was named and is none; a usual place may be absent."""
    for path in directories:
        if not is_directory(path):
            what = "is not a directory" if is_there(path) else "does not exist"
            raise UsageError(IO, f"{path or 'an empty name'} {what}", "correct --cache-dir")
        inside = os.path.join(path, "results")
        if os.path.basename(os.path.normpath(path)) == "results" and not is_directory(inside):
            above = os.path.dirname(os.path.normpath(path)) or "."
            raise UsageError(
                IO, f"{path} is inside a cache", f"give the directory above: --cache-dir {above}"
            )


def _again(options: argparse.Namespace, scope: Scope) -> str:
    return "".join(f" --cache-dir {quoted(path)}" for path in options.cache_dir or ()) + scope.again


def _work(scope: Scope, directories: Sequence[str], write: bool) -> Found:
    remembered, unreadable = read_caches(directories)
    network = scope.conf.name if scope.conf else ""
    store = _store(scope, create=write)
    try:
        if store is not None:
            seeds, bad = read_legacy(store)
            remembered += seeds
            unreadable += bad
        wanted = candidates(remembered, network)
        with Node() as node:
            adopter = Adopter(node, store, _options(scope, network))
            adoptions = (adopter.write if write else adopter.examine)(wanted)
            if write:
                _log(adoptions)
            # Another network's pods are not asked about.
            unmanaged = [] if network else adopter.not_remembered(adoptions)
            bad = [one for one in unreadable if not adopter.covers(one.file)]
            return Found(adoptions, bad, unmanaged)
    finally:
        if store is not None:
            store.close()


def _log(adoptions: list[Adoption]) -> None:
    """Tell the journal which records were made or removed, and which should have been."""
    for one in adoptions:
        title = title_of(str(one.pod), one.key.container_id, one.key.ifname)
        fields = {
            "CNI_CONTAINERID": one.key.container_id,
            "IFNAME": one.key.ifname,
            "POD": str(one.pod),
            "NETWORK": one.network,
            "REASON": _words(one),
        }
        if one.state == adopting.ADOPTED:
            log.event("adopted", f"adopted {title}", **fields)
        elif one.state == adopting.REMOVED:
            log.event("forgotten", f"removed the record of {title}: {one.reason}", **fields)
        elif one.failed:
            log.event("failed", f"not adopted: {title}: {one.reason}", **fields)


def _store(scope: Scope, create: bool) -> Store | None:
    try:
        return Store(scope.checkpoint_dir, create)
    except FileNotFoundError:
        return None  # nothing was ever attached through us, and a dry run makes nothing


def _options(scope: Scope, network: str) -> Options:
    document = scope.conf.document if scope.conf else {}
    settings = {key: document[key] for key in _REPAIRS_KEYS if key in document}
    if scope.run_dir:
        settings["runDir"] = scope.run_dir
    return Options(
        checkpoint_dir=scope.checkpoint_dir,
        run_dir=scope.run_dir,
        network=network,
        settings=settings,
        configured=lambda plugin: _configured(plugin, scope.conf),
    )


def _configured(plugin: dict[str, Any] | None, given: NetConf | None) -> Configured:
    """What a plugin's configuration says; what it leaves open, --conf does."""
    # Which version its Result was to have makes no difference here.
    conf = netconf.check({**plugin, "cniVersion": netconf.VERSIONS[0]}) if plugin else given
    if conf is None:
        raise CniError(
            CONFIG,
            "the configuration that it was made with is not known",
            "give the network's: --conf FILE",
        )
    hints, better = hints_of(conf), hints_of(given)
    parents = hints.parents if hints else better.parents if better else ()
    if better and not parents[0].ifindex and better.parents[0].name == parents[0].name:
        parents = better.parents  # it may know that eth0.3, which is gone, was VLAN 3 over eth0
    hints = hints or better
    return Configured(
        delegate=conf.delegate,
        checkpoint_dir=conf.checkpoint_dir,
        parents=parents,
        mode=hints.mode if hints else "bridge",
        mtu=hints.mtu if hints else 0,
    )


# --- showing --------------------------------------------------------------------------------------


def _show(found: Found, directories: Sequence[str]) -> None:
    for line in table(found.adoptions):
        say(line)
    for bad in found.unreadable:
        say(f"{UNREADABLE}: {one_line(str(bad.error))}")
    for pod in found.unmanaged:
        say(f"{UNMANAGED}: {one_line(str(pod))}: no cache entry names it: {_CACHE_DIR}")
    say(_totals(found, directories))


def table(adoptions: list[Adoption]) -> list[str]:
    """A line each, but for what is gone: libcni may have left its entry of every pod that ever was.

    Words that all rows of a state share are said once, below the table: in the order in which pods
    were made, states alternate.
    """
    rows = [_row(one) for one in adoptions if one.state != adopting.GONE]
    if not rows:
        return []
    shared = _shared(rows)
    rows = [replace(row, reason="") if row.state in shared else row for row in rows]
    below = [f"    all {count} {state}: {words}" for state, (count, words) in shared.items()]
    return [*(line.text for line in table_of(_COLUMNS, rows)), *below]


def _words(one: Adoption) -> str:
    if one.unknown and one.state in (adopting.ADOPTED, adopting.ADOPTABLE):
        return one_line(f"not known: {'; '.join(one.unknown)}")
    return one_line(one.reason)


def _shared(rows: list[Row]) -> dict[str, tuple[int, str]]:
    """State to (how many, words), for those states whose rows all have the same words."""
    by_state: dict[str, list[str]] = {}
    for row in rows:
        by_state.setdefault(row.state, []).append(row.reason)
    return {
        state: (len(words), words[0])
        for state, words in by_state.items()
        if len(words) > 1 and words[0] and len(set(words)) == 1
    }


def _row(one: Adoption) -> Row:
    attachment = one.checkpoint.attachment if one.checkpoint else None
    cells = (
        str(one.checkpoint.pod if one.checkpoint else one.pod) or "-",
        short_id(one.key.container_id),
        one.key.ifname,
        attachment.parents[0].name if attachment else "-",
        " ".join(address.address for address in attachment.addresses) if attachment else "-",
    )
    return Row(one.state, tuple(map(one_line, cells)), _words(one))


def _totals(found: Found, directories: Sequence[str]) -> str:
    counts = _counts(found)
    if not any(counts.values()):
        return f"no attachments in {', '.join(f'{path}/results' for path in directories)}"
    states = ", ".join(
        f"{count} {_WORDS.get(state, state)}" for state, count in counts.items() if count
    )
    total = len(found.adoptions) + len(found.unmanaged)
    return f"{total} attachment{'' if total == 1 else 's'}: {states}"


def _counts(found: Found) -> dict[str, int]:
    counts = {state: sum(one.state == state for one in found.adoptions) for state in _STATES}
    more = {UNREADABLE: len(found.unreadable), UNMANAGED: len(found.unmanaged)}
    return {**counts, **more}


def document(found: Found, written: bool) -> dict[str, Any]:
    """The whole answer of `adopt -o json`."""
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "written": written,
        "attachments": [one.document() for one in found.adoptions],
        "unreadable": [
            {"file": one.file, "findings": [str(one.error)]} for one in found.unreadable
        ],
        "unmanaged": [one.document() for one in found.unmanaged],
        "summary": {"attachments": len(found.adoptions), **_counts(found)},
    }
