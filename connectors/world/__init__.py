"""The synthetic world: seeded camera scenes with exact truth about every object in them."""
