"""Arms all pods of a node, waits for a line, and repairs: how long after it the last pod had its
network again, in milliseconds.

    firedway.py CHECKPOINT-DIRECTORY RUN-DIRECTORY
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import Store
from cni_repair.node.context import Node
from cni_repair.repair.armed.arming import arm
from cni_repair.repair.scheduler import repair, usable_processors, worker_count
from cni_repair.repair.session import RepairOptions


def main() -> int:
    directory, run_dir = sys.argv[1:]
    restored: list[float] = []
    options = RepairOptions(
        run_dir, 0.0, on_restored=lambda _: restored.append(time.perf_counter())
    )
    with Store(directory) as store, Node() as node:
        entries = inventory.read_all(store, None)
        others = worker_count(len(entries), usable_processors()) - 1
        with arm(node, store, entries, options, others) as armed:
            print(armed.count, flush=True)
            sys.stdin.readline()
            began = time.perf_counter()
            reports = repair(node, store, entries, replace(options, armed=armed))
            missed = {**armed.missed}
    if missed or len(restored) < len(entries) or not all(report.healthy for report in reports):
        print(f"not done: {missed}, {len(restored)} of {len(entries)} restored", flush=True)
        return 1
    worked = sum(os.times()[:4])
    print(1000 * (max(restored) - began), 1000 * worked, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
