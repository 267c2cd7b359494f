"""Streaming concept tracking over the network."""
