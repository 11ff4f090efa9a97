"""What the bundle's program `install` does: the bundle, which was unpacked in its place, goes into
service, or cni-repair goes away. For hosts that have no Python, and so no use for install.sh.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import cni_repair
from cni_repair.base.errors import CniError
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import CHECKPOINT_DIR
from cni_repair.cli.common import REFUSED
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.removal import Removal, in_the_way
from cni_repair.placing import puts, service
from cni_repair.placing.puts import NAME, NotPlaced, Prefix
from cni_repair.placing.runtimes import Choice, plugin_directory
from cni_repair.placing.service import Service
from cni_repair.watch.kubernetes.withdrawal import withdraw_once
from cni_repair.watch.settings import CONFIG_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def main(arguments: list[str]) -> int:
    """Install, or uninstall; its exit status: 3 where something still needs cni-repair."""
    options = _parse(arguments)
    version = _own_version()
    prefix = Prefix(version.parents[1])
    try:
        choice = _choice(options.bin_dir)
        if options.uninstall:
            return _uninstall(prefix, choice, options)
        return _install(prefix, version, choice, options.watch)
    except (CniError, NotPlaced, OSError) as error:
        print(f"install: {one_line(str(error))}", file=sys.stderr)
        return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="install", description="Puts this version of cni-repair into service on this host."
    )
    parser.add_argument(
        "--bin-dir",
        metavar="DIR",
        help="where the container runtime looks for plugins (default: what its configuration says)",
    )
    parser.add_argument(
        "--uninstall",
        action="store_true",
        help="remove cni-repair, all its versions; its records in /var/lib/cni-repair stay."
        " Refused (exit status 3) while something needs it: cni-repair help back-out",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="have systemd run cni-repair watch, now and after every boot, by the configuration"
        f" {CONFIG_FILE}; it is made from share/examples/watch.yaml where there is none",
    )
    parser.add_argument(
        "--purge",
        action="store_true",
        help="with --uninstall: remove the records and the watcher's configuration, too",
    )
    parser.add_argument(
        "--conf-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="with --uninstall: network configurations to be looked at beside the usual ones; may"
        " be given more than once",
    )
    parser.add_argument("--force", action="store_true", help="with --uninstall: in spite of that")
    options = parser.parse_args(arguments)
    for name in ("force", "purge", "conf_dir"):
        if getattr(options, name) and not options.uninstall:
            parser.error(f"--{name.replace('_', '-')} goes with --uninstall only")
    if options.watch and options.uninstall:
        parser.error("--watch goes with an installation only")
    if options.bin_dir and not os.path.isabs(options.bin_dir):
        parser.error(f"--bin-dir '{options.bin_dir}': give an absolute path")
    return options


def _own_version() -> Path:
    path = Path(cni_repair.__file__)
    return next(parent for parent in path.parents if parent.parent.name == "versions")


def _choice(bin_dir: str | None) -> Choice:
    return Choice(Path(bin_dir), "you said so") if bin_dir else plugin_directory()


def _install(prefix: Prefix, version: Path, choice: Choice, watch: bool) -> int:
    its_service = Service(version, choice.path)
    if watch:
        if not service.has_systemd():
            print(
                "install: --watch: systemd does not run here: install without it, and have your own"
                f" service manager run '{choice.path / NAME} watch', and start it again whenever"
                " it ends",
                file=sys.stderr,
            )
            return REFUSED
        its_service.check()
    with puts.locked(prefix):
        puts.settle_version(version)
        text = (version / NAME).read_text()
        previous = puts.put_launcher(prefix, version, choice.path, text)
        puts.say_where(prefix, version, [choice.path])
        puts.set_current(prefix, version)
        puts.remove_unused(prefix, {str(version), previous}, [choice.path])
    say(f"installed {version.name}: {choice.path / NAME} ({choice.why})")
    for note in choice.notes:
        say(note)
    if watch:
        its_service.start()
        say(
            f"cni-repair watch runs, by {CONFIG_FILE}: cni-repair watch --status shows what it sees"
        )
    else:
        its_service.upgrade()
    return 0


def _uninstall(prefix: Prefix, choice: Choice, options: argparse.Namespace) -> int:
    force, removal = options.force, Removal(plugin=True, records=options.purge)
    needs = [*_who_runs_it(prefix), *in_the_way(removal, options.conf_dir)]
    for line in needs:
        print(f"install: {'warning: ' * force}{one_line(line)}", file=sys.stderr)
    if needs and not force:
        print(
            "install: nothing was removed: cni-repair help back-out says in which order to go;"
            " --force removes it all the same",
            file=sys.stderr,
        )
        return REFUSED
    if service.remove([*puts.launchers(prefix, [choice.path])]):
        say(f"removed {service.UNIT}")
    trouble = withdraw_once()
    if trouble:
        print(f"install: warning: {one_line(trouble)}", file=sys.stderr)
    with puts.locked(prefix):
        removed = puts.launchers(prefix, [choice.path])
        for launcher in removed:
            launcher.unlink()
        puts.remove_prefix(prefix)
    say(f"removed {', '.join(map(str, [*removed, prefix.path]))}")
    for path in (os.path.dirname(CHECKPOINT_DIR), RUN_DIR, CONFIG_FILE):
        if os.path.lexists(path):
            _purge(path) if options.purge else say(f"kept {path} (--uninstall --purge removes it)")
    return 0


def _purge(path: str) -> None:
    """Raises NotPlaced where something is mounted within: that is not ours to be emptied."""
    if os.path.isdir(path) and not os.path.islink(path):
        device = os.lstat(path).st_dev
        for directory, _, _ in os.walk(path):
            if os.lstat(directory).st_dev != device:
                raise NotPlaced(f"{path} is left: {directory} is a mount: unmount it first")
        shutil.rmtree(path)
    else:
        os.unlink(path)
    say(f"removed {path}")


def _who_runs_it(prefix: Prefix) -> Iterator[str]:
    for pid, words in puts.running(prefix.path).items():
        if pid != os.getpid() and not service.is_watch(pid):
            yield f"PID {pid} runs it ({words}): wait for its end, or stop it"
