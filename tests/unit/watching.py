"""What a watcher may know of a node."""

from __future__ import annotations

from cni_repair.watch.status import Status

NOON = 1_700_000_000.25
STATUS: Status = {
    "pid": 812,
    "since": NOON,
    "config": "/etc/cni-repair/watch.yaml",
    "mode": "healing",
    "reason": "",
    "heal": "uplink",
    "lastLook": NOON + 60,
    "attachments": {"healthy": 248, "lost": 2, "stale": 1},
    "byNetwork": {"podnet": {"healthy": 248, "lost": 1}, "other": {"lost": 1, "stale": 1}},
    "damaged": {"uplinkUp": 0, "uplinkDown": 2},
    "masters": [
        {"name": "bond4.3", "up": True, "carrier": True, "awaySince": None, "attachments": 249,
         "armed": 0},
        {"name": "eth1", "up": False, "carrier": False, "awaySince": NOON + 48, "attachments": 2,
         "armed": 2},
    ],
    "armed": 2,
    "heals": {"total": 3, "failed": 1, "lastAt": NOON + 30, "lastOutageMs": 2212},
    "refused": [
        {"containerID": "c" * 64, "ifname": "eth0", "pod": "shop/web-1", "state": "foreign",
         "reason": "eth0 is a bridge"},
    ],
    "kubelet": {"held": False, "since": None},
    "unmanaged": 1,
    "coverage": {"restorable": 250, "interfaces": 251},
    "kubernetes": {"node": "", "condition": None, "at": None, "trouble": ""},
}  # fmt: skip
