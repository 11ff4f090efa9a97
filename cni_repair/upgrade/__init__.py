"""The upgrade of a NIC driver on a node with pods: plan, journal, phases, report."""
