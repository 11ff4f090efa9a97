"""An upgrade that a unit of systemd's does, as the terminal follows it: it may go at any time."""

from __future__ import annotations

import time

from cni_repair.base.errors import CniError
from cni_repair.cli.common import INTERRUPTED, print_error
from cni_repair.cli.upgrade.options import again, for_unit
from cni_repair.cli.upgrade.status import print_report
from cni_repair.cli.upgrade.view import shown
from cni_repair.upgrade import journal as journals
from cni_repair.upgrade import unit
from cni_repair.upgrade.lock import Refused
from cni_repair.upgrade.progress import FAILED, REFUSED, progress_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from cni_repair.upgrade.journal import Event

_POLL_SECONDS = 0.1
_UNIT_SECONDS = 1.0


def in_unit(options: argparse.Namespace, words: list[str]) -> int:
    """Have a unit of systemd's do it, and follow its journal."""
    follower = _Follower(options)
    try:
        unit.start(follower.unit, [*words, "--foreground", *for_unit(options)])
    except CniError as error:
        raise Refused(str(error)) from error
    try:
        return follower.follow()
    except KeyboardInterrupt:
        print_error(
            f"the upgrade goes on in {follower.unit}: cni-repair upgrade --status"
            f"{again(options)} shows it (journalctl -u {follower.unit})"
        )
        return INTERRUPTED


class _Follower:
    """Shows the events that come to a journal, until the upgrade's end or its unit's."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._reader = journals.Reader(options.state_dir)
        self._events = self._reader.fresh()
        self._begun = False
        resumes = progress_of(self._events).resumes
        self.unit = unit.name_of(resumes + 1 if options.resume else 0)

    def follow(self) -> int:
        with shown(self._options.output != "json") as show:
            running = True
            while running and not self._ended():
                running = unit.is_running(self.unit)
                self._pass_on(show)
        if not self._begun and not self._options.resume:
            print_error(
                f"{self.unit} did not begin, nothing was done: see journalctl -u {self.unit}"
            )
            return REFUSED
        if not self._ended():
            print_error(
                f"{self.unit} ended without a word: see journalctl -u {self.unit}; go on with"
                f" cni-repair upgrade --resume{again(self._options)}"
            )
            return FAILED
        progress = progress_of(self._events)
        assert progress.end is not None
        return print_report(self._options, progress, progress.end["status"])

    def _pass_on(self, show: Callable[[Event], None]) -> None:
        """Show what comes within a second: systemd is not asked more often than that."""
        until = time.monotonic() + _UNIT_SECONDS
        while True:
            for event in self._reader.fresh():
                if event["event"] == "begin":
                    self._events = []
                self._begun = True
                self._events.append(event)
                show(event)
            if self._ended() or time.monotonic() >= until:
                return
            time.sleep(_POLL_SECONDS)

    def _ended(self) -> bool:
        return self._begun and self._events[-1]["event"] == "end"
