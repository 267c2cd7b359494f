"""Models measured on data sets and held-out worlds."""
