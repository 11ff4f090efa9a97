"""The machine that runs ansible: ansible-core from Python's index, an inventory, the playbooks."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cni_repair.demo.lab import Lab
from cni_repair.demo.process import run
from integration.command import CHECKOUT
from integration.errors import RigError
from integration.pypackages import PythonPackages

ANSIBLE = PythonPackages(
    "ansible",
    (
        "ansible-core==2.19.14", "cffi==2.1.1", "cryptography==50.0.2", "Jinja2==3.1.6",
        "MarkupSafe==3.0.4", "packaging==26.4", "pycparser==3.12", "PyYAML==6.0.4",
        "resolvelib==1.2.1",
    ),
)  # fmt: skip
PLAYBOOKS = CHECKOUT / "conf/ansible"
PLAY_SECONDS = 900.0
ITSELF = "controller"  # in the inventory
_OLDEST = (3, 11)
TOO_OLD = "left out: ansible-core 2.19 needs Python 3.11"
# Its packages are on no path that a host's Python would have, too.
_MAIN = (
    "import sys; sys.path.insert(0, {tree!r}); sys.argv[0] = 'ansible';"
    " from ansible.__main__ import main; main()"
)
_RECAP = re.compile(r"^(\w+)\s+: (ok=\d+ .*)$", re.MULTILINE)


def prepare() -> None:
    """Have ansible in the cache. Raises RigError where that cannot be."""
    if sys.version_info < _OLDEST:
        raise RigError(TOO_OLD)
    ANSIBLE.prepare()


class Host(Protocol):
    """One that ansible reaches by a shell, which runs its commands there."""

    @property
    def host(self) -> str:
        """Its name."""

    @property
    def shell(self) -> str:
        """The shell's script."""


@dataclass(frozen=True)
class Played:
    """What came of a playbook."""

    status: int
    said: str
    seconds: float
    recap: Mapping[str, Mapping[str, int]]  # by host: ok, changed, unreachable, failed, …

    def having(self, what: str) -> set[str]:
        """The hosts of which the recap counts any of that."""
        return {host for host, counts in self.recap.items() if counts[what]}


class Controller:
    """Runs playbooks: as this process would, or from the lab where it stands."""

    def __init__(self, directory: Path) -> None:
        self.lab: Lab | None = None
        self._directory = directory
        self._hosts: dict[str, dict[str, str]] = {ITSELF: {"ansible_connection": "local"}}
        self._inventory = directory / "inventory.json"
        self._write_inventory()

    def stand_in(self, lab: Lab, hosts: Sequence[Host]) -> None:
        """From now on it stands in that lab's node, and knows these hosts."""
        self.lab = lab
        self.know(hosts)

    def know(self, hosts: Sequence[Host], **variables: str) -> None:
        """From now on these hosts are its inventory, with further variables of all of them."""
        self._hosts = {host.host: {**self._variables(host), **variables} for host in hosts}
        self._write_inventory()

    def _write_inventory(self) -> None:
        self._inventory.write_text(json.dumps({"all": {"hosts": self._hosts}}))

    def _variables(self, host: Host) -> dict[str, str]:
        place = self._directory / host.host
        place.mkdir()
        shell = place / "shell"
        shell.write_text(host.shell)
        shell.chmod(0o755)
        return {
            "ansible_connection": "local",
            "ansible_shell_executable": str(shell),
            # (What ansible brings to a host it writes here, where it stands itself.)
            "ansible_remote_tmp": f"{place}/tmp",
            "ansible_async_dir": f"{place}/async",
        }

    def play(self, playbook: str, variables: Mapping[str, Any], *words: str) -> Played:
        """Play one of conf/ansible, to its end."""
        variables = {"cni_repair_become": False, **variables}
        extra = ["-i", str(self._inventory), "-e", json.dumps(variables)]
        return self.run("playbook", *extra, *words, f"{playbook}.yml")

    def run(self, tool: str, *words: str) -> Played:
        """Run one of ansible's commands (playbook, doc) in conf/ansible."""
        entering = self.lab.ground.entering(self.lab.node) if self.lab else []
        main = [sys.executable, "-I", "-c", _MAIN.format(tree=str(ANSIBLE.directory)), tool]
        command = [*entering, "env", f"--chdir={PLAYBOOKS}", *main, *words]
        done = run(command, self._environment, "", PLAY_SECONDS)
        said = done.stdout + done.stderr
        return Played(done.returncode, said, done.seconds, recap_of(done.stdout))

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._directory),
            "ANSIBLE_CONFIG": f"{PLAYBOOKS}/ansible.cfg",  # not the machine's
            "ANSIBLE_HOME": f"{self._directory}/ansible",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        }


def recap_of(said: str) -> dict[str, dict[str, int]]:
    """The counts at the end of what ansible-playbook prints, by host."""
    return {
        host: {name: int(number) for name, number in (word.split("=") for word in counts.split())}
        for host, counts in _RECAP.findall(said)
    }
