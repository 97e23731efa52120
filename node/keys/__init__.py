"""A home's keys, and the files that hold them."""
