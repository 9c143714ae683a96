"""A stand-in for a Kubernetes cluster: an API server, controllers, and kubelets whose pods are processes here.

It does what our commands and agents meet: it knows whom it talks to and what they may (RBAC), refuses bodies with
unknown fields, keeps versions and forgets old ones (410), merges server-side applies, ends objects in time, and answers
with the errors of the real one. It is no Kubernetes: what is not used here is not there.
"""
