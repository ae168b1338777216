"""Weights of the registered models, one safetensors file and one model card each."""
