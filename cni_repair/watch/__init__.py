"""The resident daemon: sees what happens to the node's links, and heals."""
