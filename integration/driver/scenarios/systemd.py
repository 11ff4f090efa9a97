"""What an upgrade may expect of systemd."""

from __future__ import annotations

from pathlib import Path

from integration.driver.checks import Checks
from integration.driver.node import KUBELET, OPERATORS_UNITS, UNITS, Node, poll_until

_FIRED = Path("/run/fired")
_SECONDS = 60.0
# Else a timer may be up to a minute late, to go with others.
_EXACT = "--timer-property=AccuracySec=100ms"


def systemd(node: Node, check: Checks) -> None:
    """How kubelet can be held down, how it cannot, and that a timer lets go of it in time."""
    check_mask(check, node)
    check_timer(check, node)


def check_mask(check: Checks, node: Node) -> None:
    """`mask --runtime` is of no use against a unit file of the operator's own."""
    with node.kubelet(UNITS):
        node.systemctl("stop", KUBELET)
        node.systemctl("mask", "--runtime", KUBELET)
        refused = node.systemctl("start", KUBELET, check=False)
        down = node.unit(KUBELET)
        node.systemctl("unmask", "--runtime", KUBELET)
        node.systemctl("start", KUBELET)
        up = node.unit(KUBELET)
    check(
        f"kubelet.service in {UNITS}: mask --runtime holds it down, unmask lets it go",
        refused.returncode != 0 and down["LoadState"] == "masked" and up["ActiveState"] == "active",
        (refused, down, up),
    )
    with node.kubelet(OPERATORS_UNITS):
        node.systemctl("stop", KUBELET)
        node.systemctl("mask", "--runtime", KUBELET)
        node.systemctl("start", KUBELET, check=False)
        up = node.unit(KUBELET)
    check(
        f"kubelet.service in {OPERATORS_UNITS}: mask --runtime does not hold it down",
        up["ActiveState"] == "active",
        up,
    )


def check_timer(check: Checks, node: Node) -> None:
    """A dead man's timer, once it is told to be exact."""
    timer = ["systemd-run", "--unit=dead-man", "--collect", "--on-active=2", _EXACT]
    node.run([*timer, "touch", str(_FIRED)], check=True)
    check.succeeds(
        "systemd-run --on-active: the unit is started when its time has come",
        lambda: poll_until(_FIRED.exists, _SECONDS, _FIRED.name),
    )
    _FIRED.unlink(missing_ok=True)


SCENARIOS = {"systemd": systemd}
