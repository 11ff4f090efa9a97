"""What it takes to have the attachments' masters again, as `status` and `plan` show it."""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.network.links import legs_of, link_named
from cni_repair.node.context import POD_FAILURES, wrapped
from cni_repair.node.verdict import parents_of
from cni_repair.uplink.comparison import missing_commands, shim_plans
from cni_repair.uplink.ensure import ChainLooks
from cni_repair.uplink.plan import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink
    from cni_repair.network.operations.base import Operation
    from cni_repair.uplink.belongings import NodeRecords
    from cni_repair.uplink.ensure import Parents
    from cni_repair.uplink.plan import ParentPlan


class MasterSteps:
    """The steps for all masters, with what the node had over them: each is said once."""

    def __init__(self, rtnl: Rtnetlink, records: NodeRecords | None) -> None:
        self._rtnl = rtnl
        self._records = records
        self._looks = ChainLooks(rtnl, records)
        self._parents_said: set[Parents] = set()
        self._findings_said: set[str] = set()
        self._commands_said: set[str] = set()

    def look(self, parents: Parents) -> tuple[ParentPlan, HostLink | None]:
        return self._looks.look(parents)

    def unsaid(self, commands: Iterable[str]) -> list[str]:
        """Those of a pod's commands that no other of its attachments has said: a route with next
        hops through two of them, or a rule, stands in the records of both."""
        fresh = [command for command in commands if command not in self._commands_said]
        self._commands_said.update(fresh)
        return fresh

    def steps_for(self, parents: Parents) -> tuple[list[str], list[str]]:
        """What it takes to have a master again, with what the node itself had over it, as
        commands; and what is to be said of the latter. Both with the first pod over it."""
        if parents in self._parents_said:
            return [], []
        self._parents_said.add(parents)
        operations = self.look(parents)[0].operations
        commands = [operation.describe("") for operation in operations]
        if self._records is None:
            return commands, []
        try:
            more, notes = self._of_the_node(self._records, parents[0], operations)
        except POD_FAILURES as error:
            return commands, [f"the node's side was not looked at: {wrapped(error)}"]
        return [*commands, *more], notes

    def _of_the_node(
        self,
        records: NodeRecords,
        chain: tuple[HostLink, ...],
        operations: tuple[Operation, ...],
    ) -> tuple[list[str], list[str]]:
        to_be_made = frozenset(step.ifname for step in operations if step.over)
        recorded = records.of(chain)
        commands: list[str] = []
        notes = []
        plans = shim_plans(self._rtnl, recorded, to_be_made)
        for plan in plans:
            if plan.finding not in self._findings_said:  # chains share their lower links
                self._findings_said.add(plan.finding)
                commands += [operation.describe("") for operation in plan.operations]
                notes.append(plan.finding)
        missing = [
            command
            for command in missing_commands(self._rtnl, recorded, {plan.name for plan in plans})
            if command not in self._findings_said
        ]
        self._findings_said.update(missing)
        if missing:
            remedy = "left alone; cni-repair snapshot takes that as meant"
            notes.append(f"the node lacks what it had ({remedy}): {'; '.join(missing)}")
        return commands, notes


# --- What is in the way of pods ---

DOWN, NO_CARRIER = "down", "no carrier"
BONDS = ("bond", "team")  # kinds of links whose carrier is that of the links in them


@frozen
class Trouble:
    """What is wrong with a link of the node that pods stand on."""

    link: HostLink  # as recorded
    what: str  # DOWN, NO_CARRIER, or of a plan's: MISSING, RENAMED, REFUSED
    remedy: tuple[str, ...] = ()  # the plan's, where it is not simply missing or down
    pods: int = 0
    called: str = ""  # its name now, where it is there
    legs: tuple[HostLink, ...] = ()  # of a bond without carrier: the links in it

    @property
    def name(self) -> str:
        """As `ip link` shows it: the recorded name may be an altname by now."""
        return self.called or self.link.name


class MasterTroubles:
    """What is wrong with the masters of attachments that are not well, as the node is now."""

    def __init__(self, rtnl: Rtnetlink, checkpoints: Iterable[Checkpoint]) -> None:
        looks = ChainLooks(rtnl)
        self._of: dict[Parents, tuple[str, str] | None] = {}
        self._troubles: dict[tuple[str, str], Trouble] = {}
        for checkpoint in checkpoints:
            parents = parents_of(checkpoint)
            if parents not in self._of:
                found = _trouble(rtnl, parents, *looks.look(parents))
                place = (found.link.name, found.what) if found else None
                self._of[parents] = place
                if found is not None and place is not None:
                    self._troubles.setdefault(place, found)
            place = self._of[parents]
            if place is not None:
                known = self._troubles[place]
                self._troubles[place] = replace(known, pods=known.pods + 1)

    def all(self) -> list[Trouble]:
        return [*self._troubles.values()]

    def of(self, checkpoint: Checkpoint) -> Trouble | None:
        """What is wrong with the master of one of them."""
        place = self._of.get(parents_of(checkpoint))
        return self._troubles[place] if place else None


def _trouble(
    rtnl: Rtnetlink, parents: Parents, plan: ParentPlan, master: HostLink | None
) -> Trouble | None:
    """The first thing that is wrong, from the bottom up: what is above it follows from it. But what
    a repair waits for, or refuses, comes before all that it does not."""
    chain, follow_renamed = parents
    if plan.remedy:
        in_the_way = next((one for one in chain if one.name == plan.at), chain[-1])
        return Trouble(in_the_way, plan.state, plan.remedy)
    for recorded in reversed(chain):
        # (A VLAN may have another name: the plan found it by its id.)
        by_id = master if recorded is chain[0] else None
        link: HostLink | None = link_named(rtnl, recorded.name) or by_id
        if link is None and recorded.vlan is None:
            if follow_renamed and plan.state != MISSING:
                continue  # its card has another name, which is all right
            return Trouble(recorded, MISSING)
        if link is None:
            break  # a VLAN: a repair makes it
        if not link.up:
            return Trouble(recorded, DOWN, called=link.name)
        if not link.carrier:
            legs = tuple(legs_of(rtnl, link.ifindex)) if link.kind in BONDS else ()
            return Trouble(recorded, NO_CARRIER, called=link.name, legs=legs)
    return None
