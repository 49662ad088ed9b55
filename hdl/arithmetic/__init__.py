"""Arithmetic that several blocks share: adders, multipliers, rounding and packing."""
