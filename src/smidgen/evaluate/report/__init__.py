"""The report of a made model: one HTML file that a person can open, read, print and pass on."""

from smidgen.evaluate.report.page import render

__all__ = ["render"]
