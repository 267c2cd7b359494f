"""Drawings of what was found: annotated video and pictures."""
