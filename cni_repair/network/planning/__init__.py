"""From what should be and what is, to what to do. Pure: no I/O, no clock."""
