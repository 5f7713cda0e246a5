"""Asynchronous invocation: the durable queue and its dispatcher."""
