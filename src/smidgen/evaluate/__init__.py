"""Measuring what a model can do and what it costs to run."""
