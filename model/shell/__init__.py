"""The bus shell's registers, described once, and everything that is written from that description."""
