"""What a model is: named, fetched, read, taken apart, written."""
