"""The one error of the rig."""

from __future__ import annotations


class RigError(Exception):
    """Why the rig cannot work on this machine, and what would help, in one line."""
