"""A real journald for a rig's node: among the node's own files, it sees and writes nothing of the
machine's."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.netns.rig import Rig
from tests.patience import HANG_SECONDS, eventually

SOCKET = "/run/systemd/journal/socket"
_JOURNALD = "/lib/systemd/systemd-journald"
# Its files go with the node's /run; of the kernel's log, and the audit's, it is to read nothing.
_SETTINGS = """\
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
RateLimitIntervalSec=0
"""
_PREPARE = f"""
mkdir -p /run/systemd/journald.conf.d /run/log
printf '%s' '{_SETTINGS}' >/run/systemd/journald.conf.d/test.conf
mount -t tmpfs log /var/log
"""


@dataclass(frozen=True)
class Journal:
    """The journal of a rig's node."""

    rig: Rig

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """What journald has, as journalctl reads it; by default the lines of cni-repair."""
        matches = matches or ("SYSLOG_IDENTIFIER=cni-repair",)
        said = self.rig.run("journalctl", "-q", "-o", "json", "--all", "--no-pager", *matches).out
        return [json.loads(line) for line in said.splitlines()]

    def wait_for(self, count: int, *matches: str) -> list[dict[str, Any]]:
        """So many lines, once journald has written them."""
        found = eventually(
            lambda: (lines := self.entries(*matches)) and len(lines) >= count and lines,
            f"{count} lines in the journal",
            pause=0.1,
        )
        assert isinstance(found, list) and len(found) == count, found
        return found


@contextlib.contextmanager
def journald_on(rig: Rig) -> Iterator[Journal]:
    """Run journald on the node."""
    rig.run("sh", "-euc", _PREPARE)
    with subprocess.Popen(rig.command(_JOURNALD), stderr=subprocess.PIPE) as process:
        try:
            socket = rig.outside(SOCKET)
            eventually(lambda: _listens(socket, process), "journald's socket")
            yield Journal(rig)
        finally:
            process.terminate()
            process.communicate(timeout=HANG_SECONDS)


def _listens(socket: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, process.stderr and process.stderr.read()
    return os.path.exists(socket)
