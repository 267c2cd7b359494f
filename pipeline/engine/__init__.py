"""The loop that turns frames into results."""
