"""Estimates that need no synthesis tool: area, resources, fit to an FPGA, exploration of design points."""
