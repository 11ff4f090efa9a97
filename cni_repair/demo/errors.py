"""The one error of the lab."""

from __future__ import annotations


class LabError(Exception):
    """What went wrong, in one line for whoever runs the demo or the tests."""
