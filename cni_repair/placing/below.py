"""Paths of a node that is seen below a root: from a container its / is another directory."""

from __future__ import annotations

import os
from pathlib import Path

_MOST_LINKS = 40  # as many as the kernel follows


def real_path(root: Path, path: str | os.PathLike[str]) -> Path:
    """Where a path of the node's leads to, seen from here: links are followed as on the node.

    It need not exist. Raises OSError.
    """
    todo = _names_in(os.fspath(path))
    here: list[str] = []
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            here = here[:-1]
            continue
        step = root.joinpath(*here, name)
        if not step.is_symlink():
            here.append(name)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(f"{path} leads through too many symbolic links")
        target = os.readlink(step)
        if target.startswith("/"):
            here = []
        todo += _names_in(target)
    return root.joinpath(*here)


def _names_in(path: str) -> list[str]:
    """What a path leads through, the last name first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]
