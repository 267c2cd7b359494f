"""Data sets, published and synthetic."""
