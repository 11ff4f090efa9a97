"""Which driver serves a card, as the kernel tells it."""

from __future__ import annotations

import pytest

from cni_repair.netlink.socket import Rtnetlink
from cni_repair.upgrade.drivers import CardDriver, driver_of


@pytest.mark.parametrize("name", ["gone", "\udcff"], ids=["gone", "no UTF-8"])
def test_a_card_of_which_nobody_tells(name: str) -> None:
    with Rtnetlink() as rtnl:
        assert driver_of(rtnl, name) == CardDriver()
