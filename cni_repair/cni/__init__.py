"""The protocol edge: CNI verbs, configuration, delegate, results."""
