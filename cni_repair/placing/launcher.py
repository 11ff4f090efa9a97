"""The plugin's file that a runtime starts: a few lines that name the Python of one version.

    python3 -m cni_repair.placing.launcher PYTHON DIRECTORY...

prints one that imports from these directories.

The #! line names the version's own directory, not `current`: a process that starts during an
upgrade must not find one version's first modules and another's later ones.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from cni_repair.base.files import Untrusted, open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_BYTES = 127  # of a #! line, by older kernels
_FIRST_LINE = re.compile(r"#!(/.*/versions/[^/]+)/bin/python3 -IS")

# Isolated: no site, no .pth, nothing from the environment or the directory.
_TEXT = """\
#!%(python)s -IS
# Made by cni-repair's installer: it is put here anew by each upgrade.
import sys

sys.path += %(directories)s

try:
    from cni_repair.__main__ import main
except (ImportError, MemoryError, OSError, SystemError) as error:
    # There is no descriptor left, no memory, or the disk is bad.
    from posix import environ

    # (A message may have quotes, and there is no json to be had.)
    why = "".join(char for char in str(error) if char.isalnum() or char in " /._-")
    if b"CNI_COMMAND" in environ:
        said = '{"cniVersion":"1.0.0","code":5,"msg":"cni-repair cannot be loaded","details":"%%s"}'
        print(said %% why)
        sys.exit(1)
    sys.exit(f"cni-repair: cannot be loaded: {why}")

sys.exit(main())
"""


def launcher_text(python: str, directories: Iterable[str]) -> str:
    """A launcher by this interpreter, which imports from these directories."""
    return _TEXT % {"python": python, "directories": json.dumps(list(directories))}


def version_of(launcher: Path) -> str:
    """The version's directory that a launcher runs; empty for a file that is not our launcher.

    Raises OSError where nobody can tell: a version that is in service would pass as unused.
    """
    try:
        fd = open_regular(str(launcher))
    except (FileNotFoundError, NotADirectoryError, Untrusted):
        return ""
    with open(fd, "rb") as file:
        line = file.readline(MOST_BYTES + 1)
    match = _FIRST_LINE.fullmatch(line.decode("utf-8", "replace").rstrip("\n"))
    return match[1] if match else ""


if __name__ == "__main__":
    sys.stdout.write(launcher_text(sys.argv[1], sys.argv[2:]))
