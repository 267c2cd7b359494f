"""Blocks that at least two models use."""
