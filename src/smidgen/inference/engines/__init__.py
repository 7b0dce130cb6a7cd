"""The inference engines, one file each."""
