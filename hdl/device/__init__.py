"""The FPGA device around the accelerator: serial line, host link, clock and pins of a board."""
