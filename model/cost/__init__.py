"""Estimates that need no tool: area, resources, fit to an FPGA, exploration of design points."""
