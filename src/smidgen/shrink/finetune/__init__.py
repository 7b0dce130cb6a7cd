"""Trains a model on examples or plain text: objectives, adapters, quantization-aware passes."""
