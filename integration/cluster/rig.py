"""The host's side: builds what the cluster is made of, and prints what came of each step."""
