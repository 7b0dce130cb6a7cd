"""Storing weights in fewer bits: how values are chosen (`solvers`), and which tensor gets how many (`allocate`)."""
