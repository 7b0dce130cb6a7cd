"""Teaches a small model to answer as a big one does: losses, teachers, temperature."""
