"""A real journald for a test's node: it sees and writes nothing of the machine's."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.patience import HANG_SECONDS, eventually

if TYPE_CHECKING:
    from tests.netns.rig import Rig

SOCKET = "/run/systemd/journal/socket"
_JOURNALD = "/lib/systemd/systemd-journald"
# To be run as root where /run is nobody else's. Its files go with that /run; of the kernel's log,
# and the audit's, it is to read nothing.
PREPARE = """
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal /run/log
cat >/run/systemd/journald.conf.d/test.conf <<END
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
RateLimitIntervalSec=0
END
mount -t tmpfs log /var/log
"""


@contextlib.contextmanager
def journald(enter: Sequence[str], socket: str) -> Iterator[None]:
    """Run journald where `enter` leads; its socket is `socket` as we reach it."""
    with subprocess.Popen([*enter, _JOURNALD], stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: _listens(socket, process), "journald's socket")
            yield
        finally:
            process.terminate()
            process.communicate(timeout=HANG_SECONDS)


def _listens(socket: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, process.stderr and process.stderr.read()
    return os.path.exists(socket)


@dataclass(frozen=True)
class Journal:
    """The journal of a rig's node."""

    rig: Rig

    def sync(self) -> None:
        """Wait until journald has written all that was sent to it."""
        self.rig.run("journalctl", "--sync")

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """What journald has, as journalctl reads it; by default the lines of cni-repair."""
        self.sync()
        matches = matches or ("SYSLOG_IDENTIFIER=cni-repair",)
        said = self.rig.run("journalctl", "-q", "-o", "json", "--all", "--no-pager", *matches).out
        return [json.loads(line) for line in said.splitlines()]


@contextlib.contextmanager
def journald_on(rig: Rig) -> Iterator[Journal]:
    """Run journald among the files of a rig's node."""
    rig.run("sh", "-euc", PREPARE)
    # As systemd has it on a machine; the kernel's own 10 are full in a moment. (It is the node's.)
    rig.sysctl(None, "net/unix/max_dgram_qlen", "512")
    with journald(rig.command(), rig.outside(SOCKET)):
        yield Journal(rig)
