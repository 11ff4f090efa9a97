"""One attachment that others made, looked at: its record as it could be committed, or why not."""

from __future__ import annotations

import os

from cni_repair.adoption.candidates import SBR
from cni_repair.adoption.sandbox import open_sandbox, refused_for, why_absent
from cni_repair.adoption.verdict import (
    ADOPTABLE,
    GONE,
    RECORDED,
    REFUSED,
    SKIPPED,
    Adoption,
    Configured,
    NotAdopted,
    check_was_ours,
    is_surely,
    live_attachment,
    lost_attachment,
    result_of,
)
from cni_repair.base.files import is_there
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import OWN_TYPE
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import still_stands
from cni_repair.checkpoint.model import Checkpoint, Pod, encode_checked
from cni_repair.checkpoint.store import COMMITTED, DELETING
from cni_repair.netlink.netns import NoNetns, entered
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.observe import read_rules, with_all
from cni_repair.node.capture import OpenNetns, kept, pod_of, see
from cni_repair.node.context import POD_FAILURES, wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.adoption.candidates import Candidate
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.model import Attachment, Rule
    from cni_repair.node.capture import Seen
    from cni_repair.node.context import Node
    from cni_repair.uplink.recorder import NodeRecorder

_MACVLAN = "macvlan"


@frozen
class Options:
    """What to adopt, and how."""

    checkpoint_dir: str
    run_dir: str  # of the locks; empty: as each attachment's own configuration has it
    network: str  # only attachments of this one; empty: all
    settings: dict[str, Any]  # keys of ours, for the configuration in each record
    # Reads a plugin's configuration (or, without one, the command's); CniError where it is wrong.
    configured: Callable[[dict[str, Any] | None], Configured]


class Examiner:
    """Looks at candidates; changes nothing."""

    def __init__(
        self, node: Node, store: Store | None, options: Options, recorder: NodeRecorder
    ) -> None:
        """`store` is None where there is no checkpoint directory yet."""
        self._node = node
        self._store = store
        self._options = options
        self._recorder = recorder

    def examine(self, candidate: Candidate) -> Adoption:
        """What adopting the candidate would do."""
        pod = pod_of(candidate.args)
        verdict = Adoption(
            candidate.key, candidate.file, ADOPTABLE, candidate.netns, candidate.network, pod
        )
        try:
            recorded = self._recorded(candidate)
            if recorded is not None:
                return replace(verdict, state=RECORDED, checkpoint=recorded)
            checkpoint, unknown = self._checkpoint(candidate, pod)
            encode_checked(checkpoint)
        except NotAdopted as error:
            return replace(verdict, state=error.state, reason=str(error))
        except NoNetns as error:
            absent = why_absent(candidate.netns, error)
            return replace(verdict, state=absent.state, reason=str(absent))
        except POD_FAILURES as error:
            return replace(verdict, state=REFUSED, reason=str(wrapped(error)))
        return replace(verdict, unknown=unknown, checkpoint=checkpoint)

    def _recorded(self, candidate: Candidate) -> Checkpoint | None:
        """The record that exists already. One of an earlier life of the same container does not
        count: its namespace is gone."""
        key = candidate.key
        phase = self._store.phase(key) if self._store else None
        if phase is None or self._store is None:
            return None
        if phase == DELETING:
            raise NotAdopted(SKIPPED, "it is being deleted")
        entry = inventory.read_one(self._store, key, None) if phase == COMMITTED else None
        if entry is None and phase == COMMITTED:
            raise NotAdopted(SKIPPED, "it is being deleted")
        if entry is None:
            raise NotAdopted(REFUSED, "an ADD of it has not ended, or was killed", "call again")
        if entry.checkpoint is None or entry.checkpoint.netns is None:
            raise NotAdopted(
                REFUSED,
                f"{self._store.directory}/{entry.file} cannot be used: {entry.error}",
                "move it away, and adopt again",
            )
        alive = still_stands(entry.checkpoint.netns, self._node.own)
        return entry.checkpoint if alive else None

    def _checkpoint(self, candidate: Candidate, pod: Pod) -> tuple[Checkpoint, tuple[str, ...]]:
        """The record, and what could not be learnt."""
        netconf = {"name": candidate.network, **kept(candidate.plugin or {})}
        netconf.update(self._options.settings)
        if not candidate.network:
            raise NotAdopted(
                REFUSED,
                f"{candidate.file} does not name its network",
                "give the network's configuration: --conf FILE",
            )
        delegate = candidate.kind or _MACVLAN
        if candidate.kind == OWN_TYPE:
            delegate = self._own_configuration(candidate).delegate
        follow_renamed = netconf.get("followRenamedMaster") is True
        seen, attachment, unknown = self._attachment(candidate, follow_renamed)
        if not pod.name:
            unknown = (*unknown, "the pod's name")
        checkpoint = Checkpoint(
            key=candidate.key,
            network=candidate.network,
            pod=pod,
            attached_at=candidate.written_at,
            netns=seen.identity,
            netns_path=candidate.netns,
            delegate=delegate,
            netconf=netconf,
            result=candidate.result or result_of(attachment, candidate.netns),
            attachment=attachment,
        )
        live = seen.observed.link
        return self._recorder.noted(checkpoint, live.master) if live else checkpoint, unknown

    def _own_configuration(self, candidate: Candidate) -> Configured:
        """For what cni-repair itself attached: the record was lost, or is in another directory."""
        configured = self._options.configured(candidate.plugin)
        if configured.checkpoint_dir != self._options.checkpoint_dir:
            raise NotAdopted(
                SKIPPED,
                f"its records are in {configured.checkpoint_dir}",
                f"--checkpoint-dir {configured.checkpoint_dir}",
            )
        return configured

    def _attachment(
        self, candidate: Candidate, follow_renamed: bool
    ) -> tuple[Seen, Attachment, tuple[str, ...]]:
        sandbox = open_sandbox(candidate, self._node.own)
        try:
            name, node = candidate.key.ifname, self._node
            pod = OpenNetns(candidate.netns, sandbox.netns)
            seen = see(name, pod, node.own, node.rtnl, with_all)
            is_lost = seen.observed.link is None
            # (Of an interface that is there they are in `seen`.)
            rules = _rules_in(pod, node.own) if is_lost and SBR in candidate.chain else ()
        finally:
            os.close(sandbox.netns)
        live = seen.observed.link
        if live is not None:
            attachment, unknown = live_attachment(candidate, seen, live, follow_renamed)
            if sandbox.doubt and not is_surely(candidate, attachment):
                raise refused_for(sandbox.doubt)
        else:
            check_was_ours(candidate)
            if sandbox.doubt:
                raise refused_for(sandbox.doubt)
            if not is_there(candidate.file):
                raise NotAdopted(GONE, f"{candidate.file} is gone: it was deleted meanwhile")
            configured = self._options.configured(candidate.plugin)
            attachment, unknown = lost_attachment(candidate, configured, rules, follow_renamed)
        return seen, attachment, unknown


def _rules_in(pod: OpenNetns, own: int) -> tuple[Rule, ...]:
    with entered(pod.fd, own):
        rtnl = Rtnetlink()
    with rtnl:
        return read_rules(rtnl)
