"""Losses and matching for training; tensors only, no data loading and no files."""
