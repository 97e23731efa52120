"""Every decoder of outside bytes under mutated and random input: `python -m tests.fuzz`."""
