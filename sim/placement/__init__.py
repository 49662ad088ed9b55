"""Placement and routing of a synthesized block, and its timing with the wires that were routed.

The netlist is flattened, placed by Coloquinte and routed by qrouter; every net becomes an RC tree for OpenSTA.
"""
