"""The SAM family: tensors in, tensors out. Knows no watched files and no events."""
