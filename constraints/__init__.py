"""Timing constraints and lint waivers that are handed to other tools, kept as package data."""
