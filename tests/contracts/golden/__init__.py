"""What consumers have seen: it changes on purpose alone."""
