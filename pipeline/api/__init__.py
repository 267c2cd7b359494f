"""The HTTP API: looking at a running engine, and asking it for changes.

Served on a thread of its own. It reads what the engine and its threads have published, and never
waits for them, nor they for it.
"""
