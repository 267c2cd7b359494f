"""Studies: what one thing, such as the size of objects, does to the quality of a model."""
