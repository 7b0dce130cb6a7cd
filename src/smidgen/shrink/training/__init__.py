"""The one training loop: schedule, checkpoints that resume exactly, and the watch for overfitting."""
