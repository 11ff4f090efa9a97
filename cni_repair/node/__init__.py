"""Whole-node work on every attachment."""
