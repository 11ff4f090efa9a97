"""Sockets without :mod:`socket`: its C half, with the same names.

`import socket` takes 7.2 ms, for it imports `selectors`, `enum`, `collections` and `re`, and makes
enums of hundreds of constants; this takes 0.5 ms. (Python 3.11.2, median of 100 processes' CPU
time. ADD needs sockets for netlink; the bare macvlan plugin's whole ADD takes about 9 ms.)

    from cni_repair.base import lightsocket as socket
"""

from _socket import *  # noqa: F403 - its names are the interface
