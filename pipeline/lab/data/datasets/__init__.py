"""Readers of published data sets, and what they read into."""
