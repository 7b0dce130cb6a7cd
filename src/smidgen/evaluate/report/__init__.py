"""Reports: HTML pages of one file each that a person can open, read, print and pass on."""

from smidgen.evaluate.report.page import render, render_comparison

__all__ = ["render", "render_comparison"]
