"""Formal proofs of the handshakes: properties as hardware, and a model checker that decides them for every input."""
