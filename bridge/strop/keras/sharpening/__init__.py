"""Sharpening: Keras callbacks that turn smooth activations into thresholds while a network trains."""
