"""Every width inside the hardware, each proven from the formats; ``chessrnn.model.widths.hardware`` is the entry."""
