"""Training loops over the synthetic world."""
