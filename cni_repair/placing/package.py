"""What the scripts of the .deb and the .rpm do: configure, check-removal, remove.

The files of the package are never run where dpkg and rpm put them: these are replaced one by one
during an upgrade, while pods are added, repaired and deleted. `configure` copies them into a
version's directory of its own, compiles and tries them there, and puts launchers of it in place.
"""

from __future__ import annotations

import argparse
import os
import py_compile
import site
import subprocess
import sys
from pathlib import Path

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.cli.common import REFUSED
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.removal import Removal, in_the_way
from cni_repair.placing import service
from cni_repair.placing.launcher import launcher_text, version_of
from cni_repair.placing.puts import (
    NAME,
    NotPlaced,
    Prefix,
    launchers,
    locked,
    put_launcher,
    put_version,
    remove_prefix,
    remove_unused,
    running,
    say_where,
    set_current,
)
from cni_repair.placing.runtimes import DEFAULT, plugin_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PREFIX = Prefix(Path("/usr/lib/cni-repair"))
FORCE = "CNI_REPAIR_FORCE"  # in the environment of apt, dpkg, dnf or rpm
# While it is there (until the next boot: no pod outlives that), a purge keeps the records.
RECORDED = Path("/run/cni-repair.recorded")

_SYSTEM_PYTHON = "/usr/bin/python3"
_PACK = "import sys; sys.path.append(sys.argv[1]); from cni_repair.base.packing import make; make()"
_LIBRARIES = "lib"  # in the tree: cni_repair, and what no distribution has as a package
_UNIT_FILE = Path("/usr/lib/systemd/system") / service.UNIT
_TRY_SECONDS = 60


@frozen
class Package:
    """What is installed, by which paths."""

    tree: Path  # the files as the package brings them
    version: str  # the name that their version's directory gets
    plugin_dir: Path  # where the distribution has its CNI plugins


def main(package: Package, arguments: list[str]) -> int:
    """Do what a script of the package asks for; its exit status."""
    parser = argparse.ArgumentParser(prog="package", description="For the package's scripts.")
    parser.add_argument("action", choices=("configure", "remove"))
    action = parser.parse_args(arguments).action
    try:
        return configure(package) if action == "configure" else remove(package)
    except NotPlaced as error:
        print(f"cni-repair: {error}", file=sys.stderr)
    except (OSError, CniError, subprocess.SubprocessError, py_compile.PyCompileError) as error:
        print(f"cni-repair: cannot {action} the package: {error}", file=sys.stderr)
    return 1


# --- in ------------------------------------------------------------------------------------------


def configure(package: Package) -> int:
    """Put the package's version into service; what was in service before goes on until then."""
    choice = plugin_directory()
    with locked(PREFIX):
        known = [path.parent for path in launchers(PREFIX, [package.plugin_dir])]
        directories = list(dict.fromkeys([choice.path, package.plugin_dir, *known]))
        foreign = _installed_otherwise(directories)
        version = put_version(PREFIX, package.version, package.tree, _finish)
        text = launcher_text(f"{version}/bin/python3", _import_from(version))
        _try(version, text)
        previous = {put_launcher(PREFIX, version, one, text) for one in directories}
        say_where(PREFIX, version, directories)
        set_current(PREFIX, version)
        remove_unused(PREFIX, {str(version), *previous}, directories)
    say(f"cni-repair: {choice.path}/{NAME} is in service: {choice.why}")
    for note in choice.notes:
        say(f"cni-repair: {one_line(note)}")
    for other in foreign:
        take_over(other, directories)
    _restart_watch()
    return 0


def _installed_otherwise(directories: list[Path]) -> list[Prefix]:
    """The prefixes of install.sh, and of the image, whose launchers are to be replaced."""
    paths = (Path(found).parents[1] for one in directories if (found := version_of(one / NAME)))
    return [Prefix(path) for path in dict.fromkeys(paths) if path != PREFIX.path]


def _finish(version: Path) -> None:
    """What depends on the Python of the node: its byte code. Where it is there, it stays."""
    python = version / "bin/python3"
    if not python.is_symlink():
        python.parent.mkdir(exist_ok=True)
        python.symlink_to(_SYSTEM_PYTHON)
    for source in sorted((version / _LIBRARIES).rglob("*.py")):
        py_compile.compile(str(source), doraise=True, quiet=1)
    pack = ("-ISX", "no_debug_ranges", "-c", _PACK, f"{version}/{_LIBRARIES}")
    _run([str(python), *pack], "cannot pack the modules")


def _import_from(version: Path) -> list[str]:
    """The version's own, then the distribution's."""
    return [f"{version}/{_LIBRARIES}", *_of_system()]


def _of_system() -> list[str]:
    """Where the distribution has its libraries: not what somebody put into /usr/local."""
    found = (one for one in site.getsitepackages() if not one.startswith("/usr/local/"))
    return [one for one in found if os.path.isdir(one)]


def _try(version: Path, text: str) -> None:
    """Raises NotPlaced where a launcher with this text does not answer VERSION."""
    launcher = version / NAME
    launcher.write_text(text)
    launcher.chmod(0o755)
    said = _run([str(launcher)], "the new version does not run", {"CNI_COMMAND": "VERSION"})
    if '"supportedVersions"' not in said:
        raise NotPlaced(f"the new version does not answer VERSION: {one_line(said)}")


def _run(command: list[str], what: str, env: dict[str, str] | None = None) -> str:
    """What a program of the new version prints. Raises NotPlaced: nothing was changed."""
    done = subprocess.run(
        command,
        input='{"cniVersion":"1.0.0"}',
        env=env or {},
        capture_output=True,
        text=True,
        timeout=_TRY_SECONDS,
        check=False,
    )
    if done.returncode:
        raise NotPlaced(f"{what}: {one_line(done.stdout + done.stderr)}")
    return done.stdout


# --- install.sh's installation, taken over -------------------------------------------------------

_SHARED = ("man/man8/cni-repair.8", "bash-completion/completions/cni-repair")
_COMMAND_LINK = Path("/usr/local/sbin/cni-repair")


def take_over(other: Prefix, directories: list[Path]) -> None:
    """Remove an installation whose launchers are ours now. Its records and settings are ours, too:
    they are in the same places."""
    taken = {str(directory / NAME) for directory in directories}
    _remove_links(other, taken)
    _take_over_watch(taken)
    # Who installs there at this moment may put a launcher back.
    with locked(other):
        left = launchers(other, directories)
        if left:
            say(f"cni-repair: {other.path} still serves {', '.join(map(str, left))}: left as it is")
            return
        at_work = running(other.path)
        if at_work:
            pids = ", ".join(map(str, at_work))
            say(f"cni-repair: took over from {other.path}; remove it when PID {pids} has ended")
            return
        remove_prefix(other)
    say(f"cni-repair: took over from the installation in {other.path}, and removed it")


def _remove_links(other: Prefix, taken: set[str]) -> None:
    """The command, man page and completion that it had put below /usr/local."""
    if _COMMAND_LINK.is_symlink() and os.readlink(_COMMAND_LINK) in taken:
        _COMMAND_LINK.unlink()
    for name in _SHARED:
        link = Path("/usr/local/share", name)
        if link.is_symlink() and os.readlink(link) == f"{other.path}/current/share/{name}":
            link.unlink()


def _take_over_watch(taken: set[str]) -> None:
    """install.sh's unit would hide the package's; enabled it stays enabled, drop-ins stay."""
    unit = service.ETC_UNITS / service.UNIT
    if service.launcher_in(unit) not in taken:
        return
    unit.unlink()
    for link in service.wants():
        link.unlink()
        link.symlink_to(_UNIT_FILE)
    say(f"cni-repair: {service.UNIT} is the package's now; {unit} is removed")


# --- the watcher ----------------------------------------------------------------------------------


def _systemctl(*arguments: str) -> None:
    """Where systemd runs. What fails is told, and stops nothing."""
    if not service.has_systemd():
        return
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = one_line(done.stderr)
        print(f"cni-repair: systemctl {' '.join(arguments)}: {said}", file=sys.stderr)


def _restart_watch() -> None:
    """One that runs goes on with the new version; one that was stopped, or disabled, stays so."""
    _systemctl("daemon-reload")
    _systemctl("try-restart", service.UNIT)


def _remove_watch() -> None:
    _systemctl("disable", "--now", service.UNIT)
    for link in service.wants():  # no systemd runs here
        link.unlink()


def _take_condition() -> None:
    """What cannot be told is said, and stops nothing."""
    sys.path += _of_system()  # the scripts of the package do without, but for this
    try:
        from cni_repair.watch.kubernetes.withdrawal import withdraw_once

        trouble = withdraw_once()
    except ImportError as error:  # a dependency was removed by force
        trouble = f"a node's condition PodNetworkLost may stay: {error}"
    if trouble:
        print(f"cni-repair: warning: {one_line(trouble)}", file=sys.stderr)


# --- out ------------------------------------------------------------------------------------------


def remove(package: Package) -> int:
    """Take the launchers and versions away, unless something still needs them: 3 then."""
    lines = [*_who_runs_it(), *in_the_way(Removal(plugin=True, records=False), [])]
    force = bool(os.environ.get(FORCE))
    for line in lines:
        print(f"cni-repair: {'warning: ' if force else ''}{one_line(line)}", file=sys.stderr)
    if lines and not force:
        remedy = "cni-repair help back-out says in which order to go"
        by_force = f"{FORCE}=yes in the environment removes it all the same"
        print(f"cni-repair: nothing was removed: {remedy}; {by_force}", file=sys.stderr)
        return REFUSED
    _remember_recorded()
    _remove_watch()
    _take_condition()
    with locked(PREFIX):
        for launcher in launchers(PREFIX, [package.plugin_dir]):
            launcher.unlink()
            if launcher.parent != package.plugin_dir:  # which is dpkg's, or rpm's
                _remove_if_empty(launcher.parent)
        remove_prefix(PREFIX)
    return 0


def _remove_if_empty(directory: Path) -> None:
    """A directory that a runtime names need not be there: we may have made it."""
    try:
        directory.rmdir()
        if directory == DEFAULT:
            directory.parent.rmdir()
    except OSError:
        pass  # it has other plugins


def _who_runs_it() -> Iterator[str]:
    """A line for each process; the watcher's service is stopped before anything is removed."""
    for pid, words in running(PREFIX.path).items():
        if not service.is_watch(pid):
            yield f"PID {pid} runs it ({words}): wait for its end, or stop it"


def _remember_recorded() -> None:
    """Purging is another script's work, which has no modules left to look at pods with."""
    recorded: Iterable[str] = in_the_way(Removal(plugin=False, records=True), [])
    text = "".join(f"{one_line(line)}\n" for line in recorded)
    if text:
        RECORDED.write_text(text)
    else:
        RECORDED.unlink(missing_ok=True)
