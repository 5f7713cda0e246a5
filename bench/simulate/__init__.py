"""Replays invocation traces in simulated time against policies of keeping environments."""
