"""What several clients need: the plugins of CNI 1.1.0, from Debian's newer suites."""

from __future__ import annotations

from pathlib import Path

from integration.packages import CACHE, locked_cache, unpacked

NEWEST = "sid"
_PLUGINS = "containernetworking-plugins"
PLUGINS_OF_NEWEST = CACHE / f"{_PLUGINS}-{NEWEST}" / "usr/lib/cni"
PLUGINS_HERE = Path("/usr/lib/cni")


def prepare_plugins() -> None:
    """Have them, in the cache."""
    with locked_cache():
        unpacked(_PLUGINS, f"{_PLUGINS}-{NEWEST}", suite=NEWEST)
