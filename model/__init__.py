"""Specification: configuration, numerics, schedule, bit-accurate reference and (``model.training``) the trainer."""
