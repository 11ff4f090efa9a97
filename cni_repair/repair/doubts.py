"""Whether somebody else has the addresses of lost interfaces: asked once for all of them, before
they are made.

Only of addresses for which the IPAM's store does not speak (node/leases). Two things are asked: the
wire, and the records of the node's other pods, since macvlans do not hear their master's questions.
"""

from __future__ import annotations

from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import still_stands
from cni_repair.network.reachability.holders import ask_for
from cni_repair.node.leases import given_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.model import HostLink
    from cni_repair.repair.session import Session


def holders_of(
    session: Session, wanted: Mapping[HostLink, list[Checkpoint]]
) -> dict[tuple[str, str], str | None]:
    """By attachment and address, who else has it, in words: empty where nobody answered, None where
    the wire could not be asked."""
    asked = {
        master: [*dict.fromkeys(address for one in over for address in given_addresses(one))]
        for master, over in wanted.items()
    }
    answers = ask_for(session.node.rtnl, asked)
    heirs = _heirs(session, [one for over in wanted.values() for one in over])
    found: dict[tuple[str, str], str | None] = {}
    for master, checkpoints in wanted.items():
        heard = answers[master]
        for checkpoint in checkpoints:
            for address in given_addresses(checkpoint):
                place = checkpoint.key.name, address
                found[place] = heirs.get(place) or (
                    None if heard is None else heard.get(address, "")
                )
    return found


def _heirs(session: Session, lost: list[Checkpoint]) -> dict[tuple[str, str], str]:
    """Living pods of the node that were given one of the addresses later: IPAM's last word."""
    by_address: dict[tuple[str, str], Checkpoint] = {}
    for record in records_of(session):
        for address in given_addresses(record):
            by_address[wire_of(record), address] = record
    found = {}
    for checkpoint in lost:
        for address in given_addresses(checkpoint):
            heir = by_address.get((wire_of(checkpoint), address))
            if heir is None or heir.attached_at <= checkpoint.attached_at:
                continue
            if heir.netns is not None and still_stands(heir.netns, session.node.own):
                pod = str(heir.pod) or heir.key.container_id
                found[checkpoint.key.name, address] = f"{pod} {heir.key.ifname} on this node"
    return found


def records_of(session: Session) -> Iterable[Checkpoint]:
    """All records, the latest attachment last."""
    entries = inventory.read_all(session.store, session.options.hints)
    return [entry.checkpoint for entry in entries if entry.checkpoint is not None]


def wire_of(checkpoint: Checkpoint) -> str:
    return checkpoint.attachment.parents[0].name
