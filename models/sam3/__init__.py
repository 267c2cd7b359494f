"""SAM 3: concept detector with presence head, and memory tracker (Carion et al., 2025)."""
