"""The loop: prompts -> RolloutBatch (collector) -> Experience (scorer) -> optimizer steps (module)."""
