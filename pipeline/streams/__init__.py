"""One stream, pure: no threads, metrics, sinks or wall clock."""
