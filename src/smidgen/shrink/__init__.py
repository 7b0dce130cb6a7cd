"""The four ways of making a model small: prune, distill, fine-tune, quantize."""
