"""The CNI plugin: frame, verbs, network configuration, delegate, results."""
