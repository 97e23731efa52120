"""What runs in other programs' environments, by their own Python: it knows nothing of ours."""
