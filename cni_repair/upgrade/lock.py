"""One upgrade a node: who may begin, and how the others are told."""

from __future__ import annotations

import contextlib

from cni_repair.base.errors import TRY_AGAIN, CniError
from cni_repair.checkpoint.locks import RUN_DIR, Lock, is_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Wherever the locks of its pods are.
_LOCK = "upgrade"
_LOCK_SECONDS = 0.5  # `--status` holds it for a moment


class Refused(Exception):
    """Nothing was done; the words are for the user."""


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """No other upgrade of this node runs meanwhile. Raises Refused where one does."""
    lock = Lock(RUN_DIR, _LOCK, _LOCK_SECONDS)
    try:
        lock.__enter__()
    except CniError as error:
        busy = "another upgrade is at work on this node: cni-repair upgrade --status shows it"
        raise Refused(busy if error.code == TRY_AGAIN else str(error)) from error
    try:
        yield
    finally:
        lock.close()


def is_at_work() -> bool:
    """Whether an upgrade of this node runs, as far as can be told."""
    try:
        return is_held(RUN_DIR, _LOCK)
    except CniError:
        return False
