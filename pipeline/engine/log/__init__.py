"""Crash-safe log of records between the engine and its record sinks."""
