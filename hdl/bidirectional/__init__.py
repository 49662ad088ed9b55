"""The accelerator of networks that read a sequence in both directions."""
