"""Removes whole parts of a model: blocks, neurons, tokens."""
