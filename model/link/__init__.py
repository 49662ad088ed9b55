"""The serial link between a host and an accelerator on an FPGA: frames, and the host's client."""
