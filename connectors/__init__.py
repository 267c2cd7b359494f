"""Sources and sinks: bytes and frames in, records and pictures out. Knows no tensors or rules."""
