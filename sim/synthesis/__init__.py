"""What the accelerator costs in silicon: synthesis, timing, power, and the report of them.

``flow`` calls the others in order.  Tools are only met in ``yosys``, ``opensta`` and ``gate_level``; the rest
works on plain data.
"""
