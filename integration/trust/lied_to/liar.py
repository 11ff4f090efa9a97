"""A pod with CAP_NET_ADMIN in its own namespace, and what it does there."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from cni_repair.demo.lab import Lab, Netns
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.kernel.link import altname_of

_FLOOD_SECONDS = 3600.0


@dataclass
class Liar:
    """One such pod; `mark` is the file that a shell makes where it runs the pod's words."""

    lab: Lab
    pod: Netns
    mark: str = "mark"
    victim: Netns | None = None  # a pod beside it
    is_full: bool = False
    _at_work: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def words(self) -> dict[str, str]:
        """Shell text by the way in which it gets out of quotes; none has more than 15 bytes."""
        return {
            "unprintable": f"\x01';>{self.mark};#",
            "substitution": f"$(>{self.mark})",
            "backquote": f"`>{self.mark}`",
            "lines": f"\n>{self.mark}\n#",
            "quotes": f"'\";>{self.mark};#",
        }

    def sh(self, script: str) -> str:
        """Run a script inside; what fails may fail, as it does for whoever tries."""
        done = self.lab.run(self.pod, ["sh", "-c", script], seconds=_FLOOD_SECONDS)
        return done.stdout

    def batch(self, lines: Sequence[str]) -> None:
        """Many `ip` commands; those that fail are passed over."""
        command = ["ip", "-force", "-batch", "-"]
        self.lab.run(self.pod, command, stdin="\n".join(lines), seconds=_FLOOD_SECONDS)

    def go_on(self, script: str) -> None:
        """Do something again and again, until :meth:`end`."""
        self._start(["sh", "-c", f"while :; do {script}; sleep 0.02; done"])

    def go_on_with(self, program: str, *arguments: str) -> None:
        """Run a Python program until :meth:`end`."""
        self._start([sys.executable, "-IS", "-c", program, *arguments])

    def _start(self, command: Sequence[str]) -> None:
        self._at_work.append(
            subprocess.Popen(
                [*self.lab.ground.entering(self.pod), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def end(self) -> None:
        """End all that goes on."""
        for process in self._at_work:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._at_work.clear()

    # --- Names that `ip` refuses, and the kernel takes ---

    def label(self, label: bytes, address: str = "10.88.0.1") -> None:
        """Give eth0 an address with this label."""
        raw = socket.inet_aton(address)
        with self.lab.inside(self.pod):
            index = socket.if_nametoindex("eth0")
            body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index)
            for kind, value in ((2, raw), (1, raw), (3, label + b"\0")):
                body += nl.attribute(kind, value)
            self._send(nl.Message(rt.RTM_NEWADDR, rt.NLM_F_CREATE | rt.NLM_F_EXCL, body))

    def altname(self, name: str) -> None:
        """Give eth0 one more name."""
        with self.lab.inside(self.pod):
            body = altname_of(socket.if_nametoindex("eth0"), name)
            flags = rt.NLM_F_CREATE | rt.NLM_F_EXCL
            self._send(nl.Message(rt.RTM_NEWLINKPROP, flags, body))

    def alias(self, alias: str) -> None:
        """Give eth0 this alias."""
        self.lab.run(self.pod, ["ip", "link", "set", "dev", "eth0", "alias", alias])

    @staticmethod
    def _send(message: nl.Message) -> None:
        with Rtnetlink() as rtnl:
            rtnl.send([message])
