"""Grids of many nodes: genesis and keys, local processes, the live view, the report."""
