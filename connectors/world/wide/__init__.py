"""The wide world: hundreds of things in many kinds of places, weathers and lights, with phrases."""
