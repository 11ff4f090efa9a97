"""What `validate` finds in the files that people edit."""
