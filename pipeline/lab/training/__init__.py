"""Training of models by recipe."""
