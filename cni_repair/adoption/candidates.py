"""Attachments that others made, put together from everything that is remembered of them. Pure."""

from __future__ import annotations

import os

from cni_repair.base.frozen import frozen
from cni_repair.base.names import OWN_TYPE
from cni_repair.checkpoint.store import is_legacy
from cni_repair.network.model import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cni_repair.adoption.caches import Remembered
    from cni_repair.checkpoint.store import Key

# They call other plugins; their scratch files tell which.
META_PLUGINS = frozenset({"multus", "multus-shim"})
SBR = "sbr"  # moves routes to tables of their own: see sourcerouting


@frozen
class Candidate:
    """One attachment, put together from all sources."""

    key: Key
    file: str  # the source that tells most
    network: str
    netns: str
    plugin: dict[str, Any] | None  # the configuration of the plugin that made the interface
    chain: tuple[str, ...]  # the types of all plugins of its list
    args: dict[str, str]
    result: dict[str, Any]
    written_at: int
    legacy_file: str  # the name of its record by the predecessor; empty where there is none

    @property
    def kind(self) -> str:
        """The type of the plugin that made the interface; empty if it is not known."""
        return _type(self.plugin) if self.plugin else ""


def candidates(remembered: Iterable[Remembered], network: str = "") -> list[Candidate]:
    """One candidate for each attachment (of one network, if named), in the order of their making.

    Several sources may tell of one attachment: containerd's entry for eth0 has the configuration of
    Multus, Multus' own entry that of the plugin which it called; an older entry has no
    configuration, and a scratch file nothing else.
    """
    groups: dict[Key, list[Remembered]] = {}
    pods: dict[str, list[Remembered]] = {}
    for entry in remembered:
        groups.setdefault(entry.key, []).append(entry)
        pods.setdefault(entry.key.container_id, []).append(entry)
    merged = [_merged(group, pods[key.container_id], network) for key, group in groups.items()]
    wanted = [candidate for candidate in merged if network in ("", candidate.network)]
    return sorted(wanted, key=lambda candidate: (candidate.written_at, candidate.key.name))


def _merged(group: list[Remembered], pod: list[Remembered], network: str) -> Candidate:
    """One attachment's sources, merged; `pod` are those of all the pod's interfaces, which share
    namespace and pod's name."""
    sources = sorted(group, key=_rank_of_source, reverse=True)
    of_pod = [*sources, *sorted(pod, key=_rank_of_source, reverse=True)]
    best = sources[0]
    return Candidate(
        key=best.key,
        file=best.file,
        network=next((entry.network for entry in sources if entry.network), network),
        netns=next((entry.netns for entry in of_pod if entry.netns), ""),
        plugin=_maker(best.plugins),
        chain=tuple(map(_type, best.plugins)),
        args=next((entry.args for entry in of_pod if entry.args), {}),
        result=next((entry.result for entry in sources if entry.result), {}),
        written_at=best.written_at,
        legacy_file=next(filter(is_legacy, (os.path.basename(entry.file) for entry in group)), ""),
    )


def _rank_of_source(entry: Remembered) -> tuple[int, bool, bool, int, str]:
    """How much an entry tells: the plugin that made the interface counts most; then, of equals, the
    newest."""
    rank = _rank(_maker(entry.plugins))
    return rank, bool(entry.netns), bool(entry.result), entry.written_at, entry.file


def _maker(plugins: tuple[dict[str, Any], ...]) -> dict[str, Any] | None:
    """The plugin that made the interface: of a chain the macvlan or ipvlan plugin, or the first."""
    return max(plugins, key=_rank, default=None)


def _rank(plugin: dict[str, Any] | None) -> int:
    if plugin is None:
        return 0
    kind = _type(plugin)
    if kind in KINDS:
        return 4
    return 3 if kind == OWN_TYPE else 1 if kind in META_PLUGINS else 2


def _type(plugin: dict[str, Any]) -> str:
    kind = plugin.get("type")
    return kind if isinstance(kind, str) else ""
