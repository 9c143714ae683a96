"""Jupiter Agent: one peer agent per node that maps DAG applications over the network and runs them."""

__version__ = "0.1.0"
