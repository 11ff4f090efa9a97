"""Repairing attachments: whose turn it is, and one turn."""
