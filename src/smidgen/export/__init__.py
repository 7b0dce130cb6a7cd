"""A model -> files others can run."""
