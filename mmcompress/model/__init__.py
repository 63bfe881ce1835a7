"""The model of a config: reading it, building it, filling it, trying it."""
