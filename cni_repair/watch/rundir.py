"""Small files in the run directory, by which the watcher and the command line tell each other."""

from __future__ import annotations

import os
import time

from cni_repair.base.errors import IO, CniError, with_remedy
from cni_repair.base.files import (
    Untrusted,
    read_trusted,
    replace_whole,
    unlink_if_there,
)
from cni_repair.base.strictjson import MAX_BYTES, dumps, load_object
from cni_repair.checkpoint.locks import open_run_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def boot_time() -> float:
    """Seconds since this boot, time asleep included: no clock that is set goes by it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(run_dir: str, name: str, document: dict[str, Any]) -> None:
    """Put a document in the place of the last one, whole. Raises CniError."""
    try:
        directory = open_run_dir(run_dir, create=True)
        try:
            replace_whole(directory, name, dumps(document).encode("ascii") + b"\n")
        finally:
            os.close(directory)
    except OSError as error:
        raise _unusable(run_dir, f"cannot write {run_dir}/{name}", error) from error


def read(run_dir: str, name: str) -> dict[str, Any] | None:
    """A document; None where there is none. Raises CniError where it cannot be read or trusted."""
    try:
        directory = open_run_dir(run_dir)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(run_dir, f"cannot use the run directory {run_dir}", error) from error
    try:
        raw, _ = read_trusted(name, MAX_BYTES, directory)
    except FileNotFoundError:
        return None
    except Untrusted as error:
        raise CniError(IO, f"{run_dir}/{name} is not used", f"{error}: remove it") from error
    finally:
        os.close(directory)
    return load_object(raw, f"{run_dir}/{name}")


def remove(run_dir: str, name: str) -> None:
    """Remove a document, if there is one. Raises CniError."""
    try:
        directory = open_run_dir(run_dir)
        try:
            unlink_if_there(name, directory)
        finally:
            os.close(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unusable(run_dir, f"cannot remove {run_dir}/{name}", error) from error


def _unusable(run_dir: str, what: str, error: OSError) -> CniError:
    return CniError(IO, what, with_remedy(error, run_dir))
