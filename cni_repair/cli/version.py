"""Which cni-repair this is: its version, and the commit that it was made from."""

from __future__ import annotations

import os
import subprocess

import cni_repair

_PACKAGE = os.path.dirname(os.path.abspath(cni_repair.__file__))
_COMMIT = os.path.join(_PACKAGE, "COMMIT")  # install.sh writes it
_COMMAND = ("git", "--no-optional-locks", "-C", os.path.dirname(_PACKAGE))
_GIT_SECONDS = 10


def version() -> str:
    """The version, with its commit where that is known."""
    commit = _installed() or _of_checkout()
    return f"{cni_repair.__version__}{f' (commit {commit})' if commit else ''}"


def _installed() -> str:
    try:
        with open(_COMMIT, encoding="ascii") as file:
            return file.read(80).strip()
    except (OSError, ValueError):
        return ""


def _of_checkout() -> str:
    """Asked of git, which refuses to look at another user's checkout."""
    if not os.path.exists(os.path.join(os.path.dirname(_PACKAGE), ".git")):
        return ""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return f"{commit}, dirty" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*words: str) -> str:
    # None of the caller's: GIT_DIR would name another repository.
    environ = {
        name: os.environ[name] for name in ("PATH", "HOME", "SUDO_UID") if name in os.environ
    }
    done = subprocess.run(
        [*_COMMAND, *words],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_GIT_SECONDS,
        check=True,
    )
    return done.stdout.strip()
