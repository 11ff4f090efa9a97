"""The power goes while records are written: what is on the disk afterwards, and on the next boot.

workload   ADD, snapshot, adopt, DEL, REPAIR, GC, on a file system on a disk
recording  that disk: QEMU writes down each write and flush (writelog)
cuts       at each flush and write: what the disk may hold if the power goes then
examine    such a disk, mounted: promises (nothing acknowledged is lost, nothing torn believed)
           and reboot (what the runtime does next leaves nothing behind)
"""

from integration.trust.power.proof import NAME, WHAT, prove

__all__ = ["NAME", "WHAT", "prove"]
