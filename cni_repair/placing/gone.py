"""Whether cni-repair has gone from a node.

Apart from leaving.py: the kubelet's probes ask it every few seconds, and need nothing else there.
"""

from __future__ import annotations

from cni_repair.placing import puts
from cni_repair.placing.runtimes import plugin_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cni_repair.placing.puts import Prefix


def is_gone(prefix: Prefix) -> bool:
    """Whether no version, and no launcher that leads to one, is on this node."""
    return not prefix.versions() and not launchers_of(prefix)


def launchers_of(prefix: Prefix) -> list[Path]:
    """All that lead to a version."""
    return sorted(puts.launchers(prefix, [plugin_directory().path]))
