"""Sounds for the showcase of speech activity: voices, noises, and streams made of both."""
