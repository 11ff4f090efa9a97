"""The kernel's netlink protocol: messages, sockets, namespaces. Knows no pods."""
