"""SAM 1: one picture, one embedding, many prompts (Segment Anything, Kirillov et al., 2023)."""
