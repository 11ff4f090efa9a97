"""Each noun of the kernel in one module: reading it and writing it."""
