"""Paths of a node that is seen below a root: from a container its / is another directory."""

from __future__ import annotations

import os
from pathlib import Path

from cni_repair.base.files import MOST_LINKS, names_in


def real_path(root: Path, path: str | os.PathLike[str]) -> Path:
    """Where a path of the node's leads to, seen from here: links are followed as on the node.

    It need not exist. Raises OSError.
    """
    todo = names_in(os.fspath(path))
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
        if links > MOST_LINKS:
            raise OSError(f"{path} leads through too many symbolic links")
        target = os.readlink(step)
        if target.startswith("/"):
            here = []
        todo += names_in(target)
    return root.joinpath(*here)
