"""What of a configuration exists on this machine: worth a note, for it may be a laptop."""

from __future__ import annotations

import os

from cni_repair.base.frozen import frozen
from cni_repair.base.names import valid_id
from cni_repair.cni.master import first_name

# Where runtimes look by default (containerd, CRI-O, podman), and where Debian has them.
_DIRECTORIES = ("/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni")


@frozen
class Machine:
    """Where plugins are looked for."""

    directories: tuple[str, ...]

    def has_plugin(self, kind: str) -> bool:
        return valid_id(kind) and any(
            os.access(f"{directory}/{kind}", os.X_OK) for directory in self.directories
        )

    def has_link(self, name: str) -> bool:
        """By its name, or by an alternative one."""
        return first_name(name) is not None


def this_machine() -> Machine:
    given = [path for path in os.environ.get("CNI_PATH", "").split(":") if path.startswith("/")]
    return Machine((*given, *_DIRECTORIES))
