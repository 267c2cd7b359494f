"""The pipeline's identities for masklets: life cycle, no pixels."""
