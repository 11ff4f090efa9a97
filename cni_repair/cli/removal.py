"""What on this node still needs cni-repair: `python3 -m cni_repair.cli.removal` prints a line each.

install.sh asks before it removes anything, by the modules beside it: those of the installed version
may be half gone. Exit status 0 where nothing is in the way, else 3.
"""

from __future__ import annotations

import argparse
import os
import sys

from cni_repair.adoption.attached import living
from cni_repair.adoption.caches import CACHE_DIRS
from cni_repair.adoption.configurations import CONF_DIRS, read_configurations
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import short_id
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import CHECKPOINT_DIR
from cni_repair.cli.common import REFUSED
from cni_repair.cli.printable import say
from cni_repair.upgrade import journal as journals
from cni_repair.upgrade.lock import is_at_work
from cni_repair.upgrade.progress import CUT_SHORT, REBOOTED, RUNNING, progress_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cni_repair.adoption.attached import Attached, Unusable
    from cni_repair.adoption.configurations import Found

_PODS_SHOWN = 5


@frozen
class Removal:
    """What is to be removed."""

    plugin: bool  # no cni-repair is left for the runtime to call
    records: bool


def main(arguments: list[str]) -> int:
    """Print what is in the way, with the remedy; 3 if anything is, else 0."""
    parser = argparse.ArgumentParser(prog="removal", description="What still needs cni-repair.")
    parser.add_argument("--plugin", action="store_true", help="the plugin is to be removed")
    parser.add_argument("--records", action="store_true", help="the records are to be removed")
    parser.add_argument("--conf-dir", action="append", default=[], help="read this one, too")
    options = parser.parse_args(arguments)
    lines = list(in_the_way(Removal(options.plugin, options.records), options.conf_dir))
    for line in lines:
        say(line)
    return REFUSED if lines else 0


def in_the_way(removal: Removal, conf_dirs: Iterable[str]) -> Iterator[str]:
    """What would be broken by the removal, with the remedy."""
    yield from _upgrade()
    found = read_configurations([*CONF_DIRS, *conf_dirs])
    if removal.plugin:
        yield from _configurations(found)
    attached, unusable = living(
        [CHECKPOINT_DIR, *found.checkpoint_dirs], [*CACHE_DIRS, *found.cache_dirs]
    )
    if removal.plugin:
        yield from _made_by_us([one for one in attached if one.ours])
    if removal.records:
        yield from _recorded([one for one in attached if not (one.ours and removal.plugin)])
    yield from _unusable(unusable)


def _upgrade() -> Iterator[str]:
    """An upgrade that runs, or that only cni-repair can bring to its end."""
    # (The question makes the lock, and the directory.)
    if os.path.isdir(RUN_DIR) and is_at_work():
        yield "an upgrade is at work on this node: wait for its end (cni-repair upgrade --status)"
        return
    try:
        progress = progress_of(journals.read(journals.STATE_DIR))
    except CniError as error:
        yield f"cannot tell whether an upgrade was cut short: {error}"
        return
    standing = progress.standing(boot_id(), alive=False) if progress.begin else ""
    if standing in (RUNNING, CUT_SHORT):
        yield (
            "an upgrade was cut short: cni-repair upgrade --resume brings it to its end,"
            " --release gives it up"
        )
    elif standing not in ("", REBOOTED) and progress.holds_kubelet:
        yield "an upgrade still holds the kubelet: cni-repair upgrade --release lets it go"


def _configurations(found: Found) -> Iterator[str]:
    for naming in found.naming:
        wrapped = " or ".join(f'"{name}"' for name in naming.wrapped)
        yield (
            f"{naming.file} names cni-repair, its pods could be neither added nor deleted:"
            f' change "type" back to {wrapped} there'
        )
    for unreadable in found.unreadable:
        yield (
            f"cannot tell whether {unreadable.file} names cni-repair: {unreadable.why}:"
            " mend it, or move it away"
        )


def _made_by_us(attached: list[Attached]) -> Iterator[str]:
    if attached:
        yield (
            f"{_count(attached)} made by cni-repair ({_sources(attached)}), which the runtime may"
            " call to delete them (CRI-O, podman and Multus do): delete these pods first"
        )


def _recorded(attached: list[Attached]) -> Iterator[str]:
    if attached:
        yield (
            f"{_count(attached)} recorded ({_sources(attached)}), and could not be repaired any"
            " more: keep the records (without --purge)"
        )


def _unusable(unusable: Iterable[Unusable]) -> Iterator[str]:
    for one in unusable:
        yield f"cannot tell whether {one.file} is of a living pod: {one.why}"


def _count(attached: list[Attached]) -> str:
    names = [one.pod or short_id(one.key.container_id) for one in attached]
    shown = ", ".join(names[:_PODS_SHOWN])
    more = f" and {len(names) - _PODS_SHOWN} more" if len(names) > _PODS_SHOWN else ""
    many = len(attached) > 1
    return (
        f"{len(attached)} interface{'s' * many} of living pods ({shown}{more})"
        f" {'were' if many else 'was'}"
    )


def _sources(attached: list[Attached]) -> str:
    directories = dict.fromkeys(one.file.rpartition("/")[0] for one in attached)
    return f"by {', '.join(directories)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
