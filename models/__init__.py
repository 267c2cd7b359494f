"""The SAM family: tensors in, tensors out. Knows nothing of files being watched, threads or events."""
