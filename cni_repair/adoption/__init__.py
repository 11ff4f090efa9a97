"""Records for attachments that others made."""
