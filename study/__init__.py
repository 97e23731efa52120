"""The papers' experiments, run on the product's own contracts and agents (`commonwatt study`)."""
