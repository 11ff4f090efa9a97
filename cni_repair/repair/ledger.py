"""What became of each attachment in a repair, and who needs another turn."""

from __future__ import annotations

from cni_repair.node.verdict import parents_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.node.report import Report
    from cni_repair.uplink.ensure import Parents


class Ledger:
    """The attachments by their places in the list of entries."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = [*entries]
        self.reports: list[Report | None] = [None] * len(entries)
        self.before: dict[int, Report] = {}  # what each was like before anything was done
        self.restored: set[int] = set()  # whose traffic passes again, by this repair's work
        # What was done for those that were fired (armed), and that a look has to judge.
        self.fired: dict[int, tuple[str, ...]] = {}
        self.chains: dict[int, Parents] = {}  # what those stand on whose records nobody has read
        # Those that need another turn:
        self.away: list[int] = []  # their masters are
        self.locked: list[int] = []  # by somebody else
        self.unsettled: list[int] = []  # no carrier yet, or no address that may be used
        self.unfinished: list[int] = []  # they need another link of the pod, or its addresses
        self.unasked: list[int] = []  # nobody was asked yet whether their addresses are in use
        # By attachment and address: who has it, in words; nobody; None: it could not be asked.
        self.holders: dict[tuple[str, str], str | None] = {}
        self.pods: dict[object, list[int]] = {}  # the places of each namespace, in their order
        for place, entry in enumerate(entries):
            self.pods.setdefault(_pod_of(entry), []).append(place)

    def parents(self, place: int) -> Parents:
        """What an attachment with a readable record stands on."""
        checkpoint = self.entries[place].checkpoint
        assert checkpoint is not None
        return parents_of(checkpoint)

    def undone(self) -> list[list[int]]:
        """The places of each pod that are not reported yet."""
        pods = [[one for one in pod if self.reports[one] is None] for pod in self.pods.values()]
        return [*filter(None, pods)]

    def drop(self, place: int) -> None:
        """Leave out an attachment whose DEL was quicker."""
        self.reports[place] = None
        self.before.pop(place, None)
        for pod in self.pods.values():
            if place in pod:
                pod.remove(place)

    def shares_netns(self, place: int) -> bool:
        """Whether the pod has other interfaces, whose addresses and next hops its routes may need
        (IPv4 checks the source of a route: fib_valid_prefsrc)."""
        return len(self.pods.get(_pod_of(self.entries[place]), ())) > 1

    def waiting(self) -> tuple[list[int], ...]:
        """The lists of those that need another turn."""
        return self.away, self.locked, self.unsettled, self.unfinished, self.unasked


def _pod_of(entry: Entry) -> object:
    """What tells the attachment's namespace from others."""
    return entry.identity.netns_id if entry.identity else entry.key
