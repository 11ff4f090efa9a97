"""What each command does: its module is imported when it is called, so that --help is quick."""

from __future__ import annotations

from cni_repair.cli.common import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

USAGE = 2  # the exit status, as argparse has it


def status(options: argparse.Namespace) -> int:
    from cni_repair.cli import nodework

    return nodework.status(options)


def plan(options: argparse.Namespace) -> int:
    from cni_repair.cli import nodework

    return nodework.plan(options)


def repair(options: argparse.Namespace) -> int:
    if bool(options.containers) == options.all:
        both = "not both" if options.all else "see cni-repair status"
        print_error(f"repair: name containers, or say --all ({both})")
        return USAGE
    from cni_repair.cli import nodework

    return nodework.plan(options) if options.dry_run else nodework.repair(options)


def verify(options: argparse.Namespace) -> int:
    from cni_repair.cli.commands.verify import verify

    return verify(options)


def snapshot(options: argparse.Namespace) -> int:
    from cni_repair.cli.commands.snapshot import snapshot

    return snapshot(options)


def adopt(options: argparse.Namespace) -> int:
    from cni_repair.cli.commands.adopt import adopt

    return adopt(options)


def upgrade(options: argparse.Namespace) -> int:
    from cni_repair.cli.commands.upgrade import upgrade

    return upgrade(options)


def validate(options: argparse.Namespace) -> int:
    from cni_repair.cli.commands.validate import validate

    return validate(options.files)


def demo(options: argparse.Namespace) -> int:
    from cni_repair.demo import story

    return story.run(html=options.html)
