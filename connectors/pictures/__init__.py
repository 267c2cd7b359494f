"""Single pictures: reading, decoding, and folders of them as a stream."""
