"""The options of the commands about the watcher, and about what happened."""

from __future__ import annotations

from cni_repair.cli.arguments import (
    add_output,
    command,
    container,
    count,
    duration,
    reason,
    since,
    subject,
)
from cni_repair.watch.settings import CONFIG_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni_repair.cli.arguments import Commands


def add_watch(commands: Commands) -> None:
    parser = command(
        commands,
        "watch",
        "the resident daemon: heals by itself",
        "Stay, see what happens to the node's links, keep the records up to date, and\n"
        "heal what an uplink took with it as soon as that is back. One a node; as a\n"
        "service: install.sh --watch. With --status, --pause or --resume: ask or tell the\n"
        "one that runs. Exit status of --status 1 if none runs, or it hangs; 3 where\n"
        "another watcher is at work, or a pause that ends later is in force.",
        needs_root=False,  # checked by itself: to ask or tell takes no capabilities
    )
    _add_watch_config(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="what it sees, heals, since when")
    what.add_argument(
        "--pause",
        type=duration,
        metavar="DURATION",
        help="heal nothing for so long (30m; 24h at most): somebody works on the node's network",
    )
    what.add_argument("--resume", action="store_true", help="end a pause")
    parser.add_argument(
        "--reason", type=reason, metavar="TEXT", help="why it is paused: needed with --pause"
    )
    parser.add_argument(
        "--no-kubernetes",
        action="store_true",
        help="tell no API server of the node's pods, whatever the configuration says",
    )
    add_output(parser)


def add_check(commands: Commands) -> None:
    parser = command(
        commands,
        "check",
        "one line for node-problem-detector and other probes",
        "Say in one line of at most 80 bytes, within 5 seconds, what is wrong, the worst\n"
        "first:\n"
        "  pods     interfaces lost or damaged, although their uplink is up\n"
        "  uplinks  missing, down or without carrier, with pods on them\n"
        "  records  pod interfaces that no repair could bring back\n"
        "Reads what the watcher saw where one runs, else looks itself; changes nothing.\n"
        "Exit status 0 if all is well, 1 for a problem, 2 where nobody can tell: no\n"
        "answer in time, a watcher that has died, not root.",
        needs_root=False,  # what a probe is told of that stands on stdout, and is no usage error
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        type=subject,
        default=[],
        metavar="pods|uplinks|records",
        help="only these (default: all)",
    )
    _add_watch_config(parser)


def _add_watch_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the watcher's configuration (conf/watch.yaml explains it; default:"
        f" {CONFIG_FILE}, where there is one)",
    )


def add_log(commands: Commands) -> None:
    parser = command(
        commands,
        "log",
        "what cni-repair did on this node, and why",
        "Show cni-repair's events in systemd's journal, the newest last: what the plugin,\n"
        "the commands, upgrade and watch did to which pod, why, and how it ended. Of all\n"
        "pods, the last 100; of the pods that are named, or since a time, all that there\n"
        "are.",
        needs_root=False,  # whoever may read the journal
    )
    parser.add_argument(
        "pods",
        type=container,
        nargs="*",
        metavar="POD",
        help="pods as NAMESPACE/NAME or NAME, or the beginnings of container ids",
    )
    parser.add_argument(
        "--since",
        type=since,
        metavar="WHEN",
        help="only what happened since then: 30m, 2h or 3d ago, 03:00 (today), 2026-11-29, or"
        " '2026-11-29 03:00'",
    )
    parser.add_argument(
        "-n", "--lines", type=count, metavar="COUNT", help="only so many, the newest"
    )
    parser.add_argument(
        "--directory",
        default="",
        metavar="DIR",
        help="read the journal files there (in a container, the node's: /host/var/log/journal)",
    )
    add_output(parser)
