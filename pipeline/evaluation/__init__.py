"""The papers' own measures over the synthetic world."""
