"""Holding the kubelet down: stopped and masked, so that no watchdog starts it, and never for ever.

All of it is of this boot alone (/run): a node that is rebooted midway has its kubelet as always.
"""

from __future__ import annotations

import os
import shlex

from cni_repair.base import log
from cni_repair.base.errors import ENVIRONMENT, IO, CniError, with_remedy
from cni_repair.base.frozen import frozen
from cni_repair.upgrade.command import call, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RUNTIME = "/run/systemd/system"
_CONTROL = "/run/systemd/system.control"
# Where packages put units. Nothing else comes after /run (systemd.unit(5), "Unit File Load Path").
_OF_PACKAGES = ("/usr/", "/lib/")
# The dead-man timers: an upgrade's, and those of whoever else holds a kubelet (`watch`).
_TIMER = "cni-repair-deadman"
_ALL_TIMERS = "cni-repair-*deadman"
_TRIES = 3
_NOT_LOADED = 5  # systemctl's exit status for a unit that is no more (systemctl(1))


@frozen
class Found:
    """How the kubelet was before it was held: what it becomes again."""

    unit: str
    active: bool
    masked: bool  # by somebody else, who will have had a reason


def booted_with_systemd() -> bool:
    """sd_booted(3)."""
    return os.path.isdir(_RUNTIME)


def find(unit: str, instead: str = "say `kubelet: none` in the plan, or --no-kubelet") -> Found:
    """Look at a unit. Raises CniError where systemd, or the unit, is not there.

    `instead` is what to do where no kubelet is to be held.
    """
    if not booted_with_systemd():
        raise CniError(
            ENVIRONMENT,
            f"cannot hold {unit}: systemd does not run here",
            f"where nothing rebuilds pods, {instead}",
        )
    state = _show(unit)
    if state.get("LoadState") not in ("loaded", "masked"):
        raise CniError(
            ENVIRONMENT,
            f"there is no unit {unit} (LoadState={state.get('LoadState', '')})",
            f"name the node's own in kubelet.unit, or {instead}",
        )
    kubelet = Found(unit, _is_active(state), _is_masked(state))
    timers = _timers(_ALL_TIMERS) if kubelet.masked else []
    if timers:
        raise CniError(
            ENVIRONMENT,
            f"{unit} is held by cni-repair already: {timers[0]} is set",
            f"release it: systemctl start {timers[0].rpartition('.')[0]}.service",
        )
    if kubelet.active and kubelet.masked:
        raise CniError(
            ENVIRONMENT,
            f"{unit} runs, but is masked: once stopped, it could not be started again",
            f"systemctl unmask {shlex.quote(unit)}, or stop it yourself",
        )
    return kubelet


def hold(unit: str) -> None:
    """Stop, then mask. Again is as good.

    In this order, for of a masked unit systemd forgets what its file says of stopping: without its
    KillMode=process k3s.service would take its pods along. A watchdog that starts it in between
    finds it stopped again.
    """
    for _ in range(_TRIES):
        state = _show(unit)
        if _is_held(state):
            return
        if _is_masked(state):
            _call_shell(_unmask_script(unit))
        call(["systemctl", "stop", unit])
        _mask(unit)
    state = _show(unit)
    if not _is_held(state):
        raise CniError(
            IO,
            f"{unit} was stopped and masked {_TRIES} times, and is"
            f" {state.get('LoadState', '')} and {state.get('ActiveState', '')}",
            "stop what starts it, such as a watchdog",
        )


def release(held: Found) -> None:
    """Make the kubelet what it was. Raises CniError where that fails."""
    said = _call_shell(_release_script(held))
    state = _show(held.unit)
    if _is_masked(state) and not held.masked:
        raise CniError(IO, f"{held.unit} is still masked", said)
    if held.active and not _is_active(state):
        look = f"journalctl -u {shlex.quote(held.unit)}"
        raise CniError(IO, f"{held.unit} does not start: {look}", said)


def _is_held(state: dict[str, Any]) -> bool:
    return _is_masked(state) and not _is_active(state)


def _is_masked(state: dict[str, Any]) -> bool:
    return state.get("LoadState") == "masked"


def _is_active(state: dict[str, Any]) -> bool:
    # What is about to stop may be about to be started again (`systemctl restart`).
    return state.get("ActiveState") not in ("inactive", "failed")


def _mask(unit: str) -> None:
    """`systemctl mask --runtime`, as everybody knows it, where that is of use.

    It is a link in /run, and says nothing where the unit's file is in /etc, which comes first.
    system.control comes before both; `unmask` does not know it.
    """
    if _show(unit).get("FragmentPath", "").startswith(_OF_PACKAGES):
        call(["systemctl", "mask", "--runtime", unit])
        return
    path = _mask_of(unit)
    try:
        os.makedirs(_CONTROL, exist_ok=True)
        if not os.path.islink(path):
            os.symlink("/dev/null", path)
    except OSError as error:
        raise CniError(IO, f"cannot make {path}", with_remedy(error, _CONTROL)) from error
    call(["systemctl", "daemon-reload"])


def _release_script(held: Found) -> str:
    """What makes the kubelet what it was: the dead-man timer's command, and ours.

    Without ; $ ' and ": systemd 252 puts a backslash before each in the file that it keeps of the
    timer's unit, and reads it as one of the script's at the next daemon-reload.
    """
    unit = _shell_word(held.unit)
    steps = [] if held.masked else [_unmask_script(held.unit)]
    if held.active:
        # After a crash loop it would be refused (start-limit-hit).
        steps += [f"systemctl reset-failed {unit} 2>/dev/null", f"systemctl start {unit}"]
    return "\n".join(steps)


def _last_words(unit: str) -> str:
    """What tells the journal that the timer went off, as far as a shell can: nobody else lives."""
    text = f"{_shell_word(unit)} was released by its timer: whoever held it has vanished"
    return f"systemd-cat --identifier={log.IDENTIFIER} --priority=warning echo {text}"


def _unmask_script(unit: str) -> str:
    mask = _shell_word(_mask_of(unit))
    return (
        f"if [ -L {mask} ]\nthen\nrm {mask}\nsystemctl daemon-reload\n"
        f"else\nsystemctl unmask --runtime {_shell_word(unit)}\nfi"
    )


def _shell_word(unit: str) -> str:
    """A unit's name, or its path, for a shell; the plan allows of no other special character."""
    return unit.replace("\\", "\\\\")


def _mask_of(unit: str) -> str:
    return f"{_CONTROL}/{unit}"


# --- The dead man's timer -----------------------------------------------------------------------


def arm(held: Found, seconds: float, name: str, timer: str = _TIMER) -> None:
    """Have systemd release the kubelet after `seconds`, whatever becomes of us.

    The new timer is set before the older ones are taken away: there is no moment without one. Its
    command is systemd's own, so that nothing of ours has to be in order for it.
    """
    unit = f"{timer}-{name}-{os.getpid()}"  # a resume arms again what a killed start has armed
    call(
        [
            "systemd-run", "--quiet", "--collect", f"--unit={unit}",
            f"--description=cni-repair: release {held.unit} if whoever holds it has vanished",
            # Else it may be late by a minute, to go off together with others.
            f"--on-active={seconds:.0f}s", "--timer-property=AccuracySec=1s",
            "/bin/sh", "-c", f"{_release_script(held)}\n{_last_words(held.unit)}",
        ]
    )  # fmt: skip
    disarm(but=unit, timer=timer)


def disarm(but: str = "", timer: str = _TIMER) -> None:
    """Take the dead-man timers away, and end what one that went off this moment is about to do."""
    old = [unit for unit in _timers(timer) if unit.rpartition(".")[0] != but]
    if not old:
        return
    status, said = run(["systemctl", "stop", *old])
    if status not in (0, _NOT_LOADED):
        raise CniError(IO, f"cannot stop {' '.join(old)}: it would start the kubelet", said)


def _timers(timer: str) -> list[str]:
    command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"{timer}-*"]
    return [line.split()[0] for line in call(command).splitlines() if line.strip()]


def _call_shell(script: str) -> str:
    """Run it; what it said. Whether it did its work is asked of systemd."""
    _, said = run(["/bin/sh", "-c", script])
    return " ".join(said.split())


def _show(unit: str) -> dict[str, Any]:
    names = ["LoadState", "ActiveState", "FragmentPath"]
    options = [word for name in names for word in ("-p", name)]
    lines = call(["systemctl", "show", unit, *options]).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
