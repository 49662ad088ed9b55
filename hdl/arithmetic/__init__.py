"""Adders, multipliers, rounding and packing: arithmetic that more than one block uses."""
