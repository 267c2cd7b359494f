"""One configuration: its sections, and reading it from YAML."""
