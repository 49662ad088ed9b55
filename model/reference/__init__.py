"""Bit-accurate NumPy reference: one module per hardware block, equal to the RTL at 0 LSB."""
