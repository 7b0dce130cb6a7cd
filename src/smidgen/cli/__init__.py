"""The command line: one file per command, which composes the rooms."""
