"""A short soak: reloads under a watched node, with ADD, DEL and kill -9 among them."""

from __future__ import annotations

import random

import pytest

from cni_repair.demo.lab import Lab
from integration.soak.soak import Soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_all_is_well_after_every_reload(capsys: pytest.CaptureFixture[str]) -> None:
    with Lab(ipv6=False) as lab:
        soak = Soak(lab, 6, random.Random(1))
        try:
            status = soak.run(10)
        finally:
            soak.end()
    said = capsys.readouterr().out
    assert status == 0, said
    assert "10 reloads, " in said and " 0 kill -9" not in said, said
