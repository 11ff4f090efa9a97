"""The driver command of a plan, on this machine: where it is looked for, and whether it can run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

# Where a command without a slash is looked for, and the PATH that it is run with.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = ("/bin/sh", "-c")  # before a command that is a text


def check_command(command: tuple[str, ...]) -> str:
    """Why this machine cannot run the plan's command, with the remedy; "" if it can."""
    if command[:-1] == SHELL:
        return _check_script(command[-1])
    name = command[0]
    path = name if "/" in name else shutil.which(name, path=SEARCH_PATH)
    if path is None:
        return f"{name!r} is not in {SEARCH_PATH}: install it, or write its absolute path"
    return _check_program(path) or _check_interpreter(path)


def _check_program(path: str, whose: str = "") -> str:
    shown = f"{path!r}{whose}"
    if not os.path.exists(path):
        return f"{shown} is not there: install it, or correct the path"
    if not os.path.isfile(path):
        return f"{shown} is no file: name a program"
    if not os.access(path, os.X_OK):
        return f"{shown} is not executable: give it the right with chmod +x"
    return ""


def _check_interpreter(path: str) -> str:
    """As :func:`_check_program`, for what the first line of a script asks for."""
    try:
        with open(path, "rb") as file:
            first = file.read(256).partition(b"\n")[0]
    except OSError:  # executable, and not ours to read
        return ""
    # The kernel splits at these two only: a carriage return becomes a part of the name.
    parts = first.removeprefix(b"#!").replace(b"\t", b" ").split(b" ")
    named = [part for part in parts if part] if first.startswith(b"#!") else []
    return _check_program(os.fsdecode(named[0]), f", which {path!r} begins with,") if named else ""


def _check_first_word(text: str) -> str:
    """A script's first command, where it is a plain path: what a list would be refused for."""
    first = re.match(r"\s*(/[\w./+-]+)(?=\s|;|$)", text)
    return _check_program(first[1]) if first else ""


def _check_script(text: str) -> str:
    done = subprocess.run(
        [SHELL[0], "-n", *SHELL[1:], text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode == 0:
        return _check_first_word(text)
    complaint = " ".join(done.stderr.decode("utf-8", "replace").split())
    return f"{complaint}: correct the text, and try it with {SHELL[0]} -n -c"
