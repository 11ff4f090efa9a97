"""The node's condition taken back, where cni-repair leaves the node: nobody would ever change it.

    python3 -m cni_repair.watch.kubernetes.withdrawal

does so by the watcher's settings on the node; exit status 1, and a line, where it cannot.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import quote

from cni_repair.base.errors import SYSTEM_ERRORS, CniError
from cni_repair.watch.kubernetes import kubeconfig
from cni_repair.watch.kubernetes.client import Api, ApiError
from cni_repair.watch.kubernetes.condition import TYPE
from cni_repair.watch.kubernetes.documents import condition_in, withdrawal_patch
from cni_repair.watch.settings import Settings, settings_in_force
from cni_repair.watch.status import NotFirst, first_watcher

_CALL_SECONDS = 5.0
_NOT_FOUND = 404
FAILURES = (CniError, *SYSTEM_ERRORS)


def withdraw(settings: Settings) -> str:
    """Take the condition from the node; the node's name, empty where it had none of ours.

    Where another watcher is at work the condition is that one's, and stays.
    Raises CniError, and what SYSTEM_ERRORS are.
    """
    path = kubeconfig.in_force(settings.kubeconfig)
    if not path:
        return ""
    if not os.path.isdir(settings.run_dir):
        return _withdraw_by(path)  # (the lock would make the directory)
    try:
        with first_watcher(settings.run_dir):
            return _withdraw_by(path)
    except NotFirst:
        return ""


def _withdraw_by(path: str) -> str:
    api = Api(kubeconfig.read(path), _CALL_SECONDS)
    name = api.credential.node
    node = f"/api/v1/nodes/{quote(name, safe='')}"
    try:
        if not condition_in(api.get(node)):
            return ""
        api.patch(f"{node}/status", withdrawal_patch())
    except ApiError as error:
        if error.status == _NOT_FOUND:  # the node has left the cluster
            return ""
        raise
    return name


def trouble_of(error: BaseException) -> str:
    """What an operator has to know of a withdrawal that failed."""
    return (
        f"the condition {TYPE} may stay on this node: {error}"
        " (cni-repair help kubernetes says how to remove it by hand)"
    )


def withdraw_once() -> str:
    """Withdraw by the node's own settings; what went wrong, in a line for the operator."""
    try:
        withdraw(settings_in_force(None))
    except FAILURES as error:
        return trouble_of(error)
    return ""


def main() -> int:
    trouble = withdraw_once()
    if trouble:
        print(f"cni-repair: {trouble}", file=sys.stderr)
    return int(bool(trouble))


if __name__ == "__main__":
    sys.exit(main())
