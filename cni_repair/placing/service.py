"""The watcher's service of systemd's, as install.sh and the bundle's `install` put it into /etc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from cni_repair.base.frozen import frozen
from cni_repair.cli.printable import one_line
from cni_repair.placing.puts import NAME, NotPlaced
from cni_repair.watch.settings import CONFIG_FILE

UNIT = "cni-repair-watch.service"
ETC_UNITS = Path("/etc/systemd/system")
_EXEC_START = re.compile(r"^ExecStart=(/.*/cni-repair) watch ", re.M)


def has_systemd() -> bool:
    """Whether it runs here (sd_booted(3)), and can be told."""
    return os.path.isdir("/run/systemd/system") and shutil.which("systemctl") is not None


def is_watch(pid: int) -> bool:
    """Whether a process is of the service, which is stopped before anything is removed."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:  # it has ended
        return True
    return any(line.endswith(f"/{UNIT}") for line in groups.splitlines())


def launcher_in(unit: Path) -> str:
    """The launcher that a unit of ours runs; empty for one that is not there, or not ours."""
    try:
        found = None if unit.is_symlink() else _EXEC_START.search(unit.read_text())
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""


@frozen
class Service:
    """The service, by what a version's directory has of it."""

    version: Path
    bin_dir: Path

    @property
    def _file(self) -> Path:
        return ETC_UNITS / UNIT

    def check(self) -> None:
        """Raises NotPlaced where there is a unit that is not ours, or one that is masked."""
        if os.path.lexists(self._file) and not launcher_in(self._file):
            raise NotPlaced(
                f"{self._file} is not ours: move it away, or unmask it: systemctl unmask {UNIT}"
            )

    def start(self) -> None:
        """Have it run, now and after every boot. Settings that are there stay as they are."""
        settings = Path(CONFIG_FILE)
        if not os.path.lexists(settings):
            settings.parent.mkdir(parents=True, exist_ok=True)
            _write(settings, (self.version / "share/examples/watch.yaml").read_text())
        self._write_unit()
        _systemctl("enable", UNIT)
        self._restart("restart")

    def upgrade(self) -> None:
        """One that runs goes on with this version; one that was stopped, or disabled, stays so."""
        if launcher_in(self._file) == str(self.bin_dir / NAME) and has_systemd():
            self._write_unit()
            self._restart("try-restart")

    def _write_unit(self) -> None:
        example = (self.version / f"share/examples/systemd/{UNIT}").read_text()
        start = f"ExecStart={self.bin_dir / NAME}"
        _write(self._file, re.sub(r"^ExecStart=\S*", lambda _: start, example, flags=re.M))
        _systemctl("daemon-reload")

    def _restart(self, how: str) -> None:
        try:
            _systemctl(how, UNIT)
        except NotPlaced as error:
            raise NotPlaced(
                f"this version is in service, but its watcher does not start: {error}; see"
                f" journalctl -u {UNIT} and {CONFIG_FILE}"
            ) from error


def remove(launchers: list[Path]) -> bool:
    """Stop and remove the service, if it runs one of these launchers; whether it did."""
    unit = ETC_UNITS / UNIT
    if launcher_in(unit) not in map(str, launchers):
        return False
    if has_systemd():
        _systemctl("disable", "--now", UNIT)  # it releases a kubelet that it holds, and ends
    for link in wants():
        link.unlink()
    unit.unlink()
    if has_systemd():
        _systemctl("daemon-reload")
    return True


def wants() -> list[Path]:
    """The links by which the unit is enabled, be they dangling: glob() may leave such out."""
    links = (directory / UNIT for directory in ETC_UNITS.glob("*.wants"))
    return [link for link in links if link.is_symlink()]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    staged.write_text(text)
    staged.chmod(0o644)
    staged.replace(path)


def _systemctl(*arguments: str) -> None:
    """Raises NotPlaced."""
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPlaced(f"systemctl {' '.join(arguments)}: {one_line(done.stderr)}")
