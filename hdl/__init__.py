"""RTL of the accelerator in Amaranth; one file per block of the block diagram."""
