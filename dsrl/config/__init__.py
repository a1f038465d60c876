"""Configuration: the typed schema, Hydra's view of the registry, the checks."""
