"""Whether a pod is reached, and telling the network where it is."""
