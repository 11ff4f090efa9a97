"""What the image's container runs on every node: `python3 -m cni_repair.placing.daemonset`.

It works on the node's own root (`--host`, a hostPath volume), as chroot(2) shows it: so every path
and symbolic link is what it is for the runtime. There it puts its own version in place, and becomes
`cni-repair watch` of that version. With CNI_REPAIR_UNINSTALL=true it takes cni-repair away, as soon
as nothing on the node needs it any more (placing/leaving.py).

The kubelet's probes are `ready` and `alive`. `upgrade PLAN.yaml` upgrades the node's NIC driver, as
a Job (placing/upgrading.py). `on-host ARGUMENT...` is the node's own command line.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import cni_repair
from cni_repair.base.errors import CONFIG, CniError
from cni_repair.base.files import open_private, replace_whole
from cni_repair.base.frozen import frozen
from cni_repair.base.names import OWN_TYPE
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.cli.common import DAMAGED, USAGE
from cni_repair.cli.printable import say
from cni_repair.placing import puts
from cni_repair.placing.gone import is_gone
from cni_repair.placing.launcher import version_of
from cni_repair.placing.program import PROGRAM, tell
from cni_repair.placing.puts import NotPlaced, Prefix
from cni_repair.placing.runtimes import plugin_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

PREFIX = Prefix(Path("/opt/cni-repair"))
# What the DaemonSet sets (conf/kubernetes).
UNINSTALL = "CNI_REPAIR_UNINSTALL"  # true: take it away
BIN_DIR = "CNI_REPAIR_BIN_DIR"  # empty: the runtime's own
CONFIG_FILE = "CNI_REPAIR_CONFIG"  # a watch.yaml in the container; empty, or not there: the node's

RUN, READY, ALIVE, UPGRADE, ON_HOST = "run", "ready", "alive", "upgrade", "on-host"
# In the run directory: what the container alone has, for the node's own processes.
_NODE_CONFIG = "watch.yaml"
_MOST_CONFIG = 64 << 10
_DIGITS = 16  # of a plan's digest, in its file's name
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


class Misused(CniError):
    """What the DaemonSet, the Job or the command line asks for is nothing that can be done."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(CONFIG, what, remedy)


@frozen
class Image:
    """What is in the image: this version's tree, still to be read once the root is the node's."""

    version: str
    tree: Path
    config: bytes  # empty: the node's own


@frozen
class Wanted:
    """What the DaemonSet asks for."""

    uninstall: bool
    bin_dir: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Wanted:
        said = environ.get(UNINSTALL, "") or "false"
        if said not in ("true", "false"):
            raise Misused(f"{UNINSTALL} is {said!r}", "write true or false")
        bin_dir = environ.get(BIN_DIR, "")
        if bin_dir and not os.path.isabs(bin_dir):
            raise Misused(f"{BIN_DIR} is {bin_dir!r}", "write an absolute path, or none")
        return cls(said == "true", bin_dir)


def main(arguments: list[str]) -> int:
    """Do what is asked; exit status 1 for what cannot be done, 2 for what is mistaken."""
    options = _options(arguments)
    try:
        wanted, image = Wanted.of(os.environ), _image(os.environ.get(CONFIG_FILE, ""))
        plan = _read_plan(options.arguments[0]) if options.what == UPGRADE else b""
        if wanted.uninstall and options.what == RUN:
            _load_for_leaving()
        _enter(options.host)
        return _act(options, wanted, image) if not plan else _upgrade(image, plan)
    except (CniError, NotPlaced, OSError) as error:
        say(f"{PROGRAM}: {error}", sys.stderr)
        return USAGE if isinstance(error, Misused) else DAMAGED


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="cni-repair on a node of Kubernetes, from a container."
    )
    parser.add_argument("--host", default="/host", metavar="DIR", help="the node's root")
    parser.add_argument(
        "what", nargs="?", default=RUN, choices=(RUN, READY, ALIVE, UPGRADE, ON_HOST)
    )
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help=f"for {UPGRADE} the plan, for {ON_HOST} cni-repair's",
    )
    options = parser.parse_args(arguments)
    if options.what == UPGRADE and len(options.arguments) != 1:
        parser.error(f"{UPGRADE} takes one plan: {UPGRADE} PLAN.yaml")
    if options.what in (RUN, READY, ALIVE) and options.arguments:
        parser.error(f"{options.what} takes no arguments, but for '{options.arguments[0]}'")
    return options


def _act(options: argparse.Namespace, wanted: Wanted, image: Image) -> int:
    if options.what == ON_HOST:
        return _become([*_program(image.version), *options.arguments])
    if wanted.uninstall:
        if options.what == ALIVE:
            return 0
        if options.what == READY:
            return 0 if is_gone(PREFIX) else 1
        from cni_repair.placing.leaving import Leaving

        return Leaving(
            PREFIX,
            lambda: put_in_place(wanted, image),
            lambda: _start_watch(image),
            lambda: _withdraw(image),
        ).run()
    status = ["--status"] if options.what in (READY, ALIVE) else []
    if not status:
        put_in_place(wanted, image)
    return _become([*_watch_command(image), *status])


# --- the container, and the node's root -----------------------------------------------------------


def _image(config: str) -> Image:
    """Reads what the container alone has."""
    parents = Path(cni_repair.__file__).parents
    tree = next((one for one in parents if one.parent.name == "versions"), None)
    if tree is None:
        raise CniError(CONFIG, "this is not the image's container", "see conf/kubernetes")
    fd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    # By its descriptor the image's tree is found from the node's root, too: modules that are
    # imported later come from it, whatever becomes of the node's.
    seen = f"/proc/self/fd/{fd}"
    sys.path[:] = [_moved(path, str(tree), seen) for path in sys.path]
    for module in [*sys.modules.values()]:
        if getattr(module, "__path__", None):
            module.__path__ = [_moved(path, str(tree), seen) for path in module.__path__]
    return Image(tree.name, Path(seen), read_config(config))


def _load_for_leaving() -> None:
    """Import what takes libraries that the image's tree alone may have: TLS for one.

    These are found by their paths, which lead into the container until the root is the node's. (A
    watcher becomes the node's own program: none of this is for it.)
    """
    for name in ("base.strictyaml", "placing.leaving"):
        importlib.import_module(f"cni_repair.{name}")


def _moved(path: str, tree: str, seen: str) -> str:
    return seen + path[len(tree) :] if f"{path}/".startswith(f"{tree}/") else path


def _read_plan(path: str) -> bytes:
    plan = read_config(path)
    if not plan:
        raise Misused(f"there is no plan in {path}", "mount one there")
    return plan


def read_config(path: str) -> bytes:
    """A file of the container's; empty where there is none. Raises Misused."""
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_CONFIG + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Misused(f"{path} cannot be read", error.strerror or str(error)) from error
    if len(data) > _MOST_CONFIG:  # its beginning alone may say something else
        raise Misused(f"{path} is longer than {_MOST_CONFIG} bytes", "shorten it")
    return data


def _enter(host: str) -> None:
    if not os.path.isdir(f"{host}/proc/self"):
        raise Misused(
            f"{host} is not the root of this node",
            "mount hostPath / there, and set hostPID: true",
        )
    os.chroot(host)
    os.chdir("/")


# --- what is done there ---------------------------------------------------------------------------


def put_in_place(wanted: Wanted, image: Image) -> None:
    """Have the runtime find this version. Raises CniError, OSError."""
    if wanted.bin_dir:
        bin_dir, why = Path(wanted.bin_dir), f"{BIN_DIR} says so"
    else:
        choice = plugin_directory()
        bin_dir, why = choice.path, choice.why
        for note in choice.notes:
            tell(note)
    with puts.locked(PREFIX):
        changed = _put(image, bin_dir)
    how = "put into" if changed else "is already in"
    tell(f"{image.version} {how} {bin_dir} ({why})")
    if image.config:
        _put_file(_NODE_CONFIG, image.config)


def _put(image: Image, bin_dir: Path) -> bool:
    """Whether it was not there already: a container that is started again changes nothing."""
    version, launcher = PREFIX.version(image.version), bin_dir / OWN_TYPE
    text = (image.tree / OWN_TYPE).read_text(encoding="utf-8")
    before = version_of(launcher)
    is_there = before == str(version) and launcher.read_text(encoding="utf-8") == text
    if not is_there:
        if not before and os.path.lexists(launcher):  # before anything is put anywhere
            raise NotPlaced(f"{launcher} is not a launcher of ours: move it away")
        puts.put_version(PREFIX, image.version, image.tree)
        puts.say_where(PREFIX, version, [bin_dir])
        puts.put_launcher(PREFIX, version, bin_dir, text)
        puts.set_current(PREFIX, version)
    # One process may have just started from the version before.
    puts.remove_unused(PREFIX, {str(version), before})
    return not is_there


def _put_file(name: str, data: bytes) -> str:
    directory = open_private(RUN_DIR, create=True)
    try:
        replace_whole(directory, name, data)
    finally:
        os.close(directory)
    return f"{RUN_DIR}/{name}"


def _upgrade(image: Image, plan: bytes) -> int:
    from cni_repair.placing.upgrading import Upgrading

    # Another Job, of another plan, may be between its own look at the node and its upgrade. (The
    # files are small, and gone at the next boot.)
    name = f"upgrade-{hashlib.sha256(plan).hexdigest()[:_DIGITS]}.yaml"
    return Upgrading(_program(image.version), _ENVIRONMENT, _put_file(name, plan)).run()


def _program(version: str) -> list[str]:
    """This version's own, on the node; for a Job of another image, the one in service."""
    own = PREFIX.version(version) / OWN_TYPE
    return [str(own if own.exists() else PREFIX.path / "current" / OWN_TYPE)]


def _watch_command(image: Image) -> list[str]:
    config = ["--config", f"{RUN_DIR}/{_NODE_CONFIG}"] if image.config else []
    return [*_program(image.version), "watch", *config]


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execve(command[0], command, _ENVIRONMENT)


def _start_watch(image: Image) -> subprocess.Popen[bytes]:
    """The watcher as a child: what it forks is known by its session."""
    sys.stdout.flush()
    return subprocess.Popen(
        _watch_command(image),
        env=_ENVIRONMENT,
        start_new_session=True,
        preexec_fn=_take_signals,  # noqa: PLW1509 - there are no threads
    )


def _withdraw(image: Image) -> str:
    """Take the condition from the node, by the watcher's settings."""
    from cni_repair.watch.kubernetes.withdrawal import withdraw
    from cni_repair.watch.settings import settings_in, settings_in_force

    given = image.config
    return withdraw(settings_in(given, CONFIG_FILE) if given else settings_in_force(None))


def _take_signals() -> None:
    """In a child, which inherits what its parent does not take yet (placing/leaving.py)."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
