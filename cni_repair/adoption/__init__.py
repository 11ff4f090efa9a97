"""Records for attachments that others made: the command `adopt`."""
