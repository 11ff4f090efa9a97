"""The one error of the rigs."""

from __future__ import annotations


class RigError(Exception):
    """Why a rig cannot work on this machine, and what would help, in one line."""
