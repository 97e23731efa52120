"""Other people's programs, each run in an environment of its own, for comparison."""
