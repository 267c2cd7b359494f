"""The engine, and everything a user touches: configuration, commands, rules, records."""
