"""What is refused before anything is touched, in words that fit on a screen."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint.model import Pod
from cni_repair.checkpoint.store import Key
from cni_repair.node.discovery import Unmanaged
from cni_repair.node.report import Report
from cni_repair.node.snapshot import Snapshot, judge
from cni_repair.upgrade.planfile import plan_of
from cni_repair.upgrade.preflight import not_restorable, too_little_coverage
from tests.unit.samples import CHECKPOINT, NETNS

PLAN = plan_of({"version": 1, "driver": {"command": ["/bin/true"]}})


def report(name: str, state: str, reason: str) -> Report:
    key = Key(name, "eth0")
    checkpoint = replace(CHECKPOINT, key=key, pod=Pod("shop", name))
    return Report(key, checkpoint, NETNS, state, error=CniError(CONFIG, reason) if reason else None)


def taken(*reports: Report, bare: int = 0) -> Snapshot:
    unmanaged = tuple(Unmanaged(f"/run/netns/{name}", "net1", "eth0") for name in range(bare))
    return Snapshot(tuple(judge(one) for one in reports), unmanaged)


LOST = [report(f"web-{number}", "lost", "eth0 is gone; no master") for number in range(200)]
FOREIGN = report("db-0", "foreign", "eth0 is a bridge")
WELL = report("well", "healthy", "")


def test_pods_that_share_a_reason_are_counted() -> None:
    assert too_little_coverage(PLAN, taken(WELL, *LOST, FOREIGN, bare=3)) == [
        "coverage is 1 of 205, the plan wants 100% (see cni-repair snapshot):"
        " shop/web-0 web-0 eth0 and 199 more: lost: eth0 is gone; no master;"
        " shop/db-0 db-0 eth0: foreign: eth0 is a bridge;"
        " /run/netns/0 net1 (macvlan over eth0) and 2 more: no record: cni-repair adopt"
    ]


def test_of_many_reasons_few_are_said() -> None:
    odd = [report(f"odd-{number}", "unreadable", f"file {number}") for number in range(2000)]
    (problem,) = too_little_coverage(PLAN, taken(*odd))
    assert problem.endswith("odd-4 odd-4 eth0: unreadable: file 4; and 1995 more")


def test_report_names_each_pod() -> None:
    assert not_restorable(taken(WELL, *LOST, bare=1)) == [
        *(f"shop/web-{n} web-{n} eth0: lost: eth0 is gone; no master" for n in range(200)),
        "/run/netns/0 net1 (macvlan over eth0): no record: cni-repair adopt",
    ]


def test_coverage_that_the_plan_allows() -> None:
    assert too_little_coverage(replace(PLAN, coverage=50), taken(WELL, FOREIGN)) == []
    assert too_little_coverage(PLAN, taken()) == []
