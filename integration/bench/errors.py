"""Why a benchmark's figures would be worth nothing."""

from __future__ import annotations


class PeerError(Exception):
    """One of those that are compared failed, or did less than the others."""
