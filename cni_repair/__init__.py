"""cni-repair: brings pods' macvlan interfaces back after the node's uplink was lost."""

__version__ = "0.1.0"
