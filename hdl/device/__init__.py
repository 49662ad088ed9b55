"""What surrounds the accelerator on an FPGA: serial line, host link, clock and pins of a board."""
