"""Every proof of integration/trust on a sample, with a fixed seed."""

from __future__ import annotations

import pytest

from integration.trust.proof import Extent, Failure, Outcome
from integration.trust.proofs import PROOFS
from integration.trust.trust import proof_named

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("name", PROOFS)
def test_holds(name: str) -> None:
    proof = proof_named(name)
    outcome = proof.prove(Extent())
    if outcome.left_out:
        pytest.skip(f"{proof.NAME}: {outcome.left_out}")
    assert outcome.failures == ()
    assert outcome.tried > 0


def test_a_proof_that_tried_nothing_does_not_hold() -> None:
    assert not Outcome(0).holds
    assert not Outcome(2, (Failure("a", "b"),)).holds
    assert Outcome(2).holds
    assert Outcome(0, left_out="no QEMU here").holds
