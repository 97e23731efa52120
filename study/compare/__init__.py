"""Beyond the papers: one community under all mechanisms, with our agents and theirs."""
