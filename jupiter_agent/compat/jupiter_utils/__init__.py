"""What Jupiter v5 task scripts import. On the path inside v5 task processes only."""
