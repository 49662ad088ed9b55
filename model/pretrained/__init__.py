"""Trained weight images of the presets, ``<preset>.safetensors``, kept as package data."""
