"""The network alone: tensors in, tensors out."""
