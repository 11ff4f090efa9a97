"""Programs and libraries that take nothing of the host's but its kernel.

glibc's loader and libc, and OpenSSL, have paths of the distribution in them. On another one these
lead to something else: a locale of another glibc ends the process (an assertion in loadlocale.c),
a library for name services or an OpenSSL provider needs another libc. So each such path is
overwritten with one of the same length that never exists: /proc and /sys take no files.
"""

from __future__ import annotations

from pathlib import Path

from integration.errors import RigError
from integration.packages import run

# glibc's and OpenSSL's, by file: what is overwritten, and with what.
_LIBRARIES = (b"/usr/lib/", b"/proc/no/")  # NSS, gconv, locales; OpenSSL's configuration, providers
_DEFAULT = (b"\0/lib/", b"\0/sys/")  # where the loader looks at last
_LOADER = (b"/etc/ld.so.", b"/proc/no/s.")  # ld.so.cache, ld.so.preload
_OVERWRITTEN = {
    "ld-linux-x86-64.so.2": (_LOADER, _DEFAULT, _LIBRARIES),
    "libc.so.6": (_LIBRARIES,),
    "libcrypto.so.3": (_LIBRARIES,),
}


class Patchelf:
    """Debian's patchelf, which needs not be installed."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def needed(self, file: Path) -> list[str]:
        """The libraries that a program or library names."""
        return self._run("--print-needed", str(file)).split()

    def settle(self, program: Path, loader: Path, libraries: Path) -> None:
        """Have a program run by this loader, and find its libraries here.

        By DT_RPATH (--force-rpath): that counts for libraries of libraries, too, and before
        LD_LIBRARY_PATH. Not by $ORIGIN, which the loader reads from /proc.
        """
        self._run("--set-interpreter", str(loader), str(program))
        self._run("--force-rpath", "--set-rpath", str(libraries), str(program))

    def _run(self, *arguments: str) -> str:
        return run([str(self._program), *arguments])


def isolate(library: Path) -> None:
    """Overwrite in a library what leads to the host's files."""
    data = library.read_bytes()
    for path, instead in _OVERWRITTEN.get(library.name, ()):
        if path not in data:
            raise RigError(f"{library.name} names no {path!r} any more: see isolation.py")
        data = data.replace(path, instead)
    library.write_bytes(data)
