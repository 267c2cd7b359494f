"""Sources and sinks: bytes and frames in, records and pictures out. Knows nothing of tensors or rules."""
