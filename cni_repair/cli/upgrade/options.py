"""The options of `upgrade`: which of them go together, and which a next command has to repeat."""

from __future__ import annotations

import os

from cni_repair.checkpoint.store import CHECKPOINT_DIR
from cni_repair.cli.scope import conf_of
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.upgrade.journal import STATE_DIR
from cni_repair.upgrade.report import resume_command
from cni_repair.upgrade.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from cni_repair.upgrade.progress import Progress

# What belongs to an upgrade, not to one start of it.
_KEPT = ("checkpoint_dir", "run_dir", "conf", "no_kubelet")


def mistake_in(options: argparse.Namespace) -> str:
    """What is wrong with them, with the remedy; "" if nothing is."""
    given = [_spelt(name) for name in _KEPT if getattr(options, name)]
    given += ["--dry-run"] if options.dry_run else []
    if given and options.plan is None:
        return f"{', '.join(given)}: only with PLAN.yaml; an upgrade that was begun keeps its own"
    paths = (options.plan, options.state_dir, options.checkpoint_dir, options.run_dir, options.conf)
    odd = [path for path in paths if path and not _is_text(path)]
    return f"{odd[0]}: no UTF-8: rename it" if odd else ""


def _spelt(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def settings_of(options: argparse.Namespace) -> Settings:
    conf = conf_of(options)
    return Settings(
        checkpoint_dir=options.checkpoint_dir or (conf.checkpoint_dir if conf else CHECKPOINT_DIR),
        run_dir=options.run_dir or (conf.run_dir if conf else ""),
        state_dir=options.state_dir,
        hints=lambda: hints_of(conf),
        hold_kubelet=not options.no_kubelet,
    )


def kept(options: argparse.Namespace) -> dict[str, Any]:
    """Those that an upgrade keeps, for its journal; its unit works in another directory."""
    given = {name: getattr(options, name) for name in _KEPT}
    for name in ("checkpoint_dir", "run_dir", "conf"):
        if given[name]:
            given[name] = os.path.abspath(given[name])
    return {name: value for name, value in given.items() if value}


def put_back(options: argparse.Namespace, noted: dict[str, Any]) -> None:
    """Set those that an upgrade has kept."""
    for name in _KEPT:
        setattr(options, name, noted.get(name))


def for_unit(options: argparse.Namespace) -> list[str]:
    """The same options, for a process with another working directory."""
    words = ["--state-dir", os.path.abspath(options.state_dir)]
    for name, value in kept(options).items():
        words += [_spelt(name)] if value is True else [_spelt(name), str(value)]
    return words


def again(options: argparse.Namespace) -> str:
    """The options that a next command has to repeat, with a blank before each."""
    if options.state_dir == STATE_DIR:
        return ""
    return f" --state-dir {quoted(options.state_dir)}"


def ways_on(options: argparse.Namespace, progress: Progress) -> tuple[str, str]:
    """The commands that show the last upgrade, and that go on with it."""
    same = again(options)
    return f"cni-repair upgrade --status{same}", resume_command(progress, same)
