"""File formats that rows are read from: one file per suffix, found by its name."""
