"""Repairs that are prepared while the master is away or there yet, and sent once it is back."""
