"""``maskstream segment``: pictures and prompts in, masks out."""
