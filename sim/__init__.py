"""Simulation: confronts the emitted Verilog with the reference."""
