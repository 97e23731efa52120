"""What a scenario can be run on: local processes, containers, processes in network namespaces."""
