"""The command line's words: commands, options, and their help."""

from __future__ import annotations

import argparse

from cni_repair.cli.arguments import (
    Formatter,
    Parser,
    Version,
    add_checkpoint_options,
    add_containers,
    add_output,
    command,
    nearest,
    seconds,
    seconds_to_wait,
)
from cni_repair.cni.netconf import IPV6_DETECTIONS, MASTER_TIMEOUT_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni_repair.cli.arguments import Commands

_ABOUT = """\
Brings pods' macvlan interfaces back after the node's uplink was lost (a NIC
driver was reloaded, a bond re-created). Pods are not restarted; their TCP
connections carry on."""

_MORE = """\
on call, pods without a network:
  cni-repair status            which pods lost what, and why
  cni-repair plan              the ip commands that a repair would equal
  cni-repair repair --all      repair them; healthy pods are not touched
  cni-repair verify            ask every pod's gateways
  cni-repair log --since 2h    what happened, and who did what about it
  cni-repair help on-call      all this, explained

does it heal by itself: cni-repair watch --status.
before a driver is touched: cni-repair snapshot; the whole procedure: upgrade.
kubelet is masked: cni-repair upgrade --status says why and until when.

exit status: 0 fine, 1 something is damaged or failed, 2 wrong usage, 3 refused
for safety (not root), 130 interrupted. As a CNI plugin (CNI_COMMAND set) it
reads its configuration from stdin instead."""


def make_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; `run` of what it finds does what was asked for.

    Where the arguments begin with a command, it knows that one only: describing all of them would
    take 4 ms of a repair.
    """
    parser = Parser(
        prog="cni-repair",
        allow_abbrev=False,
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=Formatter,
    )
    parser.add_argument(
        "--version", action=Version, nargs=0, help="show the version, and its commit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    first = arguments[0] if arguments else ""
    for add in [_COMMANDS[first]] if first in _COMMANDS else _COMMANDS.values():
        add(commands)
    return parser


def check_command(parser: argparse.ArgumentParser, first: str) -> None:
    """End with the nearest command where the first word is none."""
    known = [*_COMMANDS, *(one for action in parser._actions for one in action.option_strings)]
    if first not in known:
        near = nearest(first, known)
        hint = f"did you mean {near}? " if near else ""
        parser.error(f"no command {first!r}: {hint}cni-repair --help lists them")


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser by its name: for what is made from them."""
    commands = argparse.ArgumentParser(prog="cni-repair").add_subparsers()
    for add in _COMMANDS.values():
        add(commands)
    return dict(commands.choices)


def _add_status(commands: Commands) -> None:
    parser = command(
        commands,
        "status",
        "which pods lost what, and why",
        "Compare every attachment with its record; changes nothing.\n"
        "Exit status 1 if any is lost or damaged, or a pod has no record; stale records\n"
        "(of pods that are no more) and renamed interfaces are reported, and fail\n"
        "nothing.",
    )
    add_containers(parser)
    parser.add_argument("--all", action="store_true", help="list healthy attachments, too")
    add_checkpoint_options(parser)


def _add_plan(commands: Commands) -> None:
    parser = command(
        commands,
        "plan",
        "the ip commands that a repair would equal",
        "Print the commands that a repair would equal, ready for a shell; changes\n"
        "nothing. Exit status 1 if any attachment is lost or damaged.",
    )
    which = parser.add_mutually_exclusive_group()
    add_containers(which)
    which.add_argument(
        "--all", action="store_true", help="every attachment of the node, as where none is named"
    )
    add_checkpoint_options(parser)


def _add_repair(commands: Commands) -> None:
    parser = command(
        commands,
        "repair",
        "bring lost interfaces back",
        "Bring lost interfaces back as they were; on the others, put right what is\n"
        "missing or changed. Healthy attachments receive no message that could change\n"
        "them; calling again is safe. Exit status 0 only if everything asked for is\n"
        "healthy afterwards; stale records (of pods that are no more) and renamed\n"
        "interfaces fail nothing.",
    )
    add_containers(parser)
    parser.add_argument("--all", action="store_true", help="every attachment of the node")
    parser.add_argument("--dry-run", action="store_true", help="as `cni-repair plan`")
    parser.add_argument(
        "--force",
        action="store_true",
        help="make interfaces again, too, whose addresses were freed meanwhile (state released);"
        " never with an address that another pod was given",
    )
    parser.add_argument(
        "--no-probe",
        dest="probe",
        action="store_false",
        help="do not ask on the wire whether others have the addresses (where a router answers for"
        " all of them)",
    )
    parser.add_argument(
        "--ipv6-detection",
        choices=IPV6_DETECTIONS,
        help="who looks for duplicates of restored IPv6 addresses: cni-repair, beside their traffic"
        " (default); or the kernel, before it lets them be used (1 to 2 s)",
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help="how long to wait for a master that is not there (default:"
        f" --conf's masterTimeout, else {MASTER_TIMEOUT_SECONDS:g})",
    )
    add_checkpoint_options(parser)


def _add_verify(commands: Commands) -> None:
    parser = command(
        commands,
        "verify",
        "do the pods reach their gateways now",
        "Check every attachment, then have each pod's own kernel ask its gateways again:\n"
        "by ARP, or IPv6 neighbour solicitation; all pods at once. Verdicts:\n"
        "  healthy                  as recorded, and every gateway answered just now\n"
        "  configured-not-verified  as recorded, but there is nobody to ask: no gateway,\n"
        "                           or one with a permanent neighbour entry\n"
        "  unreachable              a gateway does not answer, or there is no carrier\n"
        "  conflict                 another host has one of the pod's addresses, or two\n"
        "                           answer for its gateway, or another MAC than before\n"
        "or what `status` says: lost, degraded, stale, foreign, renamed, released,\n"
        "unreadable. Nothing is repaired. Exit status 0 if every attachment is healthy,\n"
        "has nobody to ask, or is renamed or stale, and every pod has a record; else 1.",
    )
    add_containers(parser)
    parser.add_argument("--all", action="store_true", help="list healthy attachments, too")
    parser.add_argument(
        "--timeout",
        type=seconds_to_wait,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for answers, for all pods together (default: %(default)g; with less"
        " than 4, a gateway that has a new MAC counts as silent; a switch port that just came up"
        " may need 30)",
    )
    parser.add_argument(
        "--duplicates",
        action="store_true",
        help="probe for other holders of the pods' addresses, too (0.75 s)",
    )
    add_checkpoint_options(parser)


def _add_snapshot(commands: Commands) -> None:
    parser = command(
        commands,
        "snapshot",
        "before an upgrade: bring the records up to date",
        "Take into the records what later plugins and Multus gave the pods since ADD,\n"
        "and say which pods of the node could be restored and which could not. An\n"
        "interface that is lost or damaged keeps the record that it has. Exit status 1 if\n"
        "any pod could not be restored, or a record could not be brought up to date.",
    )
    add_containers(parser)
    parser.add_argument("--check", action="store_true", help="only report, write nothing")
    parser.add_argument(
        "--accept",
        action="store_true",
        help="of the pods that are named: what is missing or changed now is meant to stay so"
        " (Multus moved the default route to another interface), and addresses that IPAM did not"
        " give are to be announced",
    )
    add_checkpoint_options(parser)


def _add_adopt(commands: Commands) -> None:
    from cni_repair.adoption.caches import CACHE_DIRS

    parser = command(
        commands,
        "adopt",
        "records for pods that were attached without cni-repair",
        "Give pods that another plugin attached, or that were there before cni-repair,\n"
        "their records: from the runtime's CNI cache, Multus' files, records of the\n"
        "predecessor plugin (12-character files), and the live interface. Pods are not\n"
        "touched. What is no macvlan over a link of the node is skipped and named. A dry\n"
        "run by default.\n"
        "Exit status 1 if an attachment cannot be adopted that should be.",
    )
    parser.add_argument("--write", action="store_true", help="write the records")
    parser.add_argument(
        "--cache-dir",
        action="append",
        metavar="DIR",
        help="where a runtime or Multus keeps its CNI cache; may be repeated (default:"
        f" {', '.join(CACHE_DIRS)})",
    )
    parser.set_defaults(containers=[])
    add_checkpoint_options(parser)


def _add_forget(commands: Commands) -> None:
    parser = command(
        commands,
        "forget",
        "remove records that no pod owns",
        "Remove the records of pods that are no more (state stale), where it is certain\n"
        "that no pod owns them: the node was rebooted, or no process and no mount holds\n"
        "the namespace. Addresses are not freed: that is the runtime's DEL, which needs\n"
        "no record. Exit status 3, and nothing is removed, if a record that is named has\n"
        "a living pod, or nobody can tell.",
    )
    add_containers(parser)
    parser.add_argument(
        "--stale", action="store_true", help="all stale records (of the pods named, if any are)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only report, remove nothing")
    add_checkpoint_options(parser)


def _add_upgrade(commands: Commands) -> None:
    from cni_repair.upgrade.journal import STATE_DIR

    parser = command(
        commands,
        "upgrade",
        "upgrade a NIC driver under the pods",
        "Upgrade the node's NIC driver as PLAN.yaml says (conf/upgrade.yaml explains it):\n"
        "check, bring the records up to date, hold the kubelet, run the driver command,\n"
        "wait for the uplinks, repair the pods, verify them, release the kubelet. Runs as\n"
        "a unit of systemd's, which a lost terminal does not end; killed anywhere,\n"
        "--resume goes on. Exit status 0 only if all went well, 3 if nothing was touched.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("plan", nargs="?", metavar="PLAN.yaml", help="begin one: what to do, and how")
    what.add_argument("--resume", action="store_true", help="go on with one that was cut short")
    what.add_argument("--status", action="store_true", help="where the last one stands")
    what.add_argument(
        "--release", action="store_true", help="release the kubelet now, and give up the last one"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the steps, check, do nothing")
    parser.add_argument(
        "--no-kubelet", action="store_true", help="do not hold a kubelet: nothing rebuilds pods"
    )
    parser.add_argument(
        "--foreground", action="store_true", help="in this process: where there is no systemd"
    )
    parser.add_argument(
        "--yes", action="store_true", help="begin without asking, which is done on a terminal only"
    )
    parser.add_argument(
        "--state-dir", default=STATE_DIR, metavar="DIR", help=f"its journal (default: {STATE_DIR})"
    )
    add_checkpoint_options(parser)


def _add_watch(commands: Commands) -> None:
    from cni_repair.cli.watch.options import add_watch  # these, only where they are asked for

    add_watch(commands)


def _add_check(commands: Commands) -> None:
    from cni_repair.cli.watch.options import add_check

    add_check(commands)


def _add_log(commands: Commands) -> None:
    from cni_repair.cli.watch.options import add_log

    add_log(commands)


def _add_validate(commands: Commands) -> None:
    parser = command(
        commands,
        "validate",
        "check configurations, checkpoints and upgrade plans",
        "Check the files that people edit: network configurations (.conf, .conflist),\n"
        "NetworkAttachmentDefinitions, upgrade plans, the watcher's configuration (YAML\n"
        "or JSON; several in a file); and records. Each finding names its place and what\n"
        "to do.\n"
        "Exit status 1 if anything is wrong, 2 for a file that does not exist.",
        needs_root=False,
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--strict", action="store_true", help="exit status 1 for warnings, too")
    add_output(parser)


def _add_help(commands: Commands) -> None:
    parser = command(
        commands,
        "help",
        "the manual: how to, and why",
        "Show a page of the manual; without a topic, list them. The options of a command:\n"
        "cni-repair COMMAND --help.",
        needs_root=False,
    )
    parser.add_argument("topic", nargs="?", metavar="TOPIC")


def _add_demo(commands: Commands) -> None:
    parser = command(
        commands,
        "demo",
        "see a repair on a throwaway node",
        "Make a throwaway node with three pods in network namespaces of its own, destroy\n"
        "its uplink under an open TCP connection, repair, and show that the connection\n"
        "carries on, and how long the pods' pings had no answer. Nothing of this\n"
        "machine's own network is touched; nothing stays behind.",
    )
    parser.add_argument(
        "--html", metavar="FILE", help="write the timeline of the pings to FILE, as a web page"
    )


_COMMANDS: dict[str, Callable[[Commands], None]] = {
    "status": _add_status,
    "plan": _add_plan,
    "repair": _add_repair,
    "verify": _add_verify,
    "snapshot": _add_snapshot,
    "adopt": _add_adopt,
    "forget": _add_forget,
    "upgrade": _add_upgrade,
    "watch": _add_watch,
    "check": _add_check,
    "log": _add_log,
    "validate": _add_validate,
    "help": _add_help,
    "demo": _add_demo,
}
