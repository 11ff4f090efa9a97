"""What a cluster is told of the node: a condition and Events, as the kubelet of that node."""
