"""What a look at a pod's interface shows. Pure: network/observe looks."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.network.kernel.address import prefix_routes
from cni_repair.network.model import RT_SCOPE_LINK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.kernel.link import LiveLink
    from cni_repair.network.model import Address, Neighbour, Route, Rule


@frozen
class Observed:
    """What one look at a pod's namespace found."""

    host_netnsid: int | None  # by which id the pod knows the node's namespace
    link: LiveLink | None
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    tentative: tuple[str, ...] = ()  # addresses that duplicate detection still looks at
    dadfailed: tuple[str, ...] = ()  # … and those that it found taken
    # The link that has the recorded ifindex, where that is not the one of the recorded name; and
    # its name, where there is none of the recorded name.
    at_ifindex: LiveLink | None = None
    ifindex_taken_by: str | None = None
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    absent_routes: tuple[Route, ...] = ()  # see Attachment
    addresses_by_kernel: tuple[Address, ...] = ()  # link-local, or from router advertisements
    routes_by_kernel: tuple[str, ...] = ()  # the prefixes of those in the main table
    links: tuple[tuple[str, int], ...] = ()  # name and index of multipath routes' other links
    troubles: tuple[str, ...] = ()  # what could not be compared, in words
    stable_private: tuple[str, ...] = ()  # of the kernel's own those of RFC 7217's kind
    # Where there is no link: sysctls that a new one begins with, as far as they were asked for.
    begins_with: tuple[tuple[str, str], ...] = ()

    @property
    def over_node(self) -> bool:
        """Whether there is a link, and it stands on one of the node's."""
        return self.link is not None and self.link.is_over(self.host_netnsid)

    @property
    def missing_prefix_routes(self) -> tuple[Route, ...]:
        """The routes that come with the addresses by themselves, and are not there any more.

        Told while there is carrier only: before, some of them are not there yet.
        """
        if self.link is None or not (self.link.up and self.link.carrier):
            return ()
        link_local = [one for one in self.addresses_by_kernel if one.scope == RT_SCOPE_LINK]
        made = prefix_routes([*self.addresses, *link_local])
        return tuple(route for route in made if route.dst not in self.routes_by_kernel)
