"""Weights: where they lie, how they are read, written and told apart."""
