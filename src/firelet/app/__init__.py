"""Configuration, and the only place that joins ports to adapters."""
