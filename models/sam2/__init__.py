"""SAM 2.1: one object through a video, with memory (SAM 2, Ravi et al., 2024)."""
