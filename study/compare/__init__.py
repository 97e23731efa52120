"""Beyond the papers: one community under all mechanisms, with the product's agents and the papers'."""
