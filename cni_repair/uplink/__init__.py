"""The node's side: the links that pods' interfaces stand on, and what the node has there."""
