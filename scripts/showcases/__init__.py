"""Tasks of ``chessrnn showcase``: public networks, compressed, trained through their frozen layers, and measured."""
