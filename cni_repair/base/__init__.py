"""What every room uses, and what knows none of them: errors, frozen values, strict JSON, files."""
