"""The specification: configuration, numerics, schedule, bit-accurate reference; and, in ``training``, the trainer."""
