"""A deterministic simulator of authorities: network, clock, disk and crashes from one seed."""
