"""The bus shell: AXI4-Stream and AXI4-Lite around the accelerator."""
