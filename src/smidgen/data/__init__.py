"""Rows of text become token batches: readers, curation, splitting, chat templates, packing, the built-in text."""
