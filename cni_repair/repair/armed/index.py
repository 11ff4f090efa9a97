"""The armed index: what the repair of each living pod would be if its master went, on disk.

It lives in the run directory, and so is gone with a reboot, as all that it says of namespaces. It
is written where records were just brought up to date (`snapshot`, `upgrade`), and counts for an
attachment as long as its record is the one that it was made from. Whatever is wrong with the file:
there is no index then, and everything is done the ordinary way. (`watch` has no need of it: on a
loss it arms what was lost; and a pod that hangs would hang the whole index.)
"""

from __future__ import annotations

import binascii
import os

from cni_repair.base.closeable import Closeable
from cni_repair.base.files import Untrusted
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.repair.session import BESIDE, RepairOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import LegacyHints
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.context import Node
    from cni_repair.repair.armed.ready import Armed


def path_of(store: Store, run_dir: str) -> str:
    """Where the index of a directory of records is: in the run directory that a command names, else
    in the usual one."""
    name = f"armed-{binascii.crc32(store.directory.encode()):08x}.index"
    return f"{run_dir or RUN_DIR}/{name}"


def write_index(node: Node, store: Store, run_dir: str, hints: LegacyHints | None) -> int:
    """Prepare the repair of all attachments as if they were lost, and write it down; how many are
    armed. Where it cannot be written there is none: nothing depends on it."""
    from cni_repair.repair.armed import indexfile

    try:
        options = RepairOptions(run_dir, 0.0, hints)
        return indexfile.write(node, store, path_of(store, run_dir), options)
    except (OSError, Untrusted):
        return 0


class Indexed(Closeable):
    """Context: the attachments of a directory, and what is armed of them.

    `entries` are as :func:`inventory.read_all` has them, but that what the index knows is not read
    yet; `options` are those given, with what is armed.
    """

    def __init__(self, node: Node, store: Store, options: RepairOptions, network: str = "") -> None:
        self._armed: Armed | None = None
        path = path_of(store, options.run_dir)
        is_meant = options.ipv6_detection == BESIDE  # the index has IPv6 addresses used at once
        if not is_meant or not os.access(path, os.R_OK):
            self.entries = inventory.read_all(store, options.hints, network)
            self.options = options
            return
        from cni_repair.repair.armed import indexfile  # of no use where there is none

        rows = indexfile.read(store, path)
        known = indexfile.entries_of(store, options, rows)
        self.entries = inventory.read_all(store, options.hints, network, known)
        self._armed = indexfile.armed_of(node, store, self.entries, options, rows)
        self.options = replace(options, armed=self._armed)

    def close(self) -> None:
        if self._armed is not None:
            self._armed.close()
