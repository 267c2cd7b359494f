"""Memory tracker: follows given objects through a stream, one bounded memory bank each."""
