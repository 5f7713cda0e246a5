"""Drivers that start, freeze, limit and stop isolated execution environments."""
