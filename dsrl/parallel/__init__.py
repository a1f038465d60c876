"""How the ranks of a run share the model: collectives, sharded weights, Lightning strategies, the watchdog."""
