"""Containers only: bytes <-> named tensors and tokenizers."""
