"""Zones, rules and the events they raise."""
