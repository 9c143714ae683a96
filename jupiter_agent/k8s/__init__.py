"""The objects that put an agent on every node of a Kubernetes cluster: pure data, rendered without a cluster."""
