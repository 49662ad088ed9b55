"""Cost of the accelerator in silicon: synthesis, timing, power, and reports of them.

``flow`` calls the other modules in order.  Only ``yosys``, ``opensta``, ``power`` and ``gate_level`` run external
tools; the others work on plain data.
"""
