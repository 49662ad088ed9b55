"""Emission of a design as named modules, each kind once.

Amaranth emits every instance of a component as a module of its own; a tile of 256 equal processing elements
would be elaborated, written and synthesized 256 times.  Components that occur many times therefore pass
through :func:`shared`: under a :class:`VerilogPlatform` an instance of one common module takes their place,
in simulation they stay what they are.
"""

import re

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Instance, ResetSignal, Value
from amaranth.lib import wiring


class VerilogPlatform:
    """Collects the modules that are emitted once.

    Attributes
    ----------
    modules : dict of str to str
        RTLIL text by module name, in the order in which they were met.
    """

    def __init__(self):
        self.modules: dict[str, str] = {}

    def emit(self, component: wiring.Component) -> str:
        """Name of the module that ``component`` describes; elaborates it when it is new."""
        name = component.module_name
        # Only the first of its kind is elaborated; Amaranth would warn that the others never are.
        component._MustUse__used = True
        if name not in self.modules:
            self.modules[name] = ""  # keeps its place before the modules below it
            reset_less = getattr(component, "reset_less", False)
            self.modules[name] = rtlil.convert(
                component,
                name=name,
                platform=self,
                emit_src=False,
                missing_domain=lambda domain: ClockDomain(domain, reset_less=reset_less),
            )
        return name

    def instance(self, component: wiring.Component) -> Instance:
        """An instance of the module that ``component`` describes."""
        name = self.emit(component)
        ports = {}
        for path, member, value in component.signature.flatten(component):
            direction = "i" if member.flow is wiring.In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
        for port, signal in (("clk", ClockSignal), ("rst", ResetSignal)):
            if re.search(rf"^\s*wire .*\binput \d+\s+\\{port}$", self.modules[name], re.MULTILINE):
                ports[f"i_{port}"] = signal()
        return Instance(name, **ports)


def shared(component: wiring.Component, platform):
    """What to add as a submodule in place of ``component``; its ports remain the ones to connect.

    ``component.module_name`` must tell apart any two components that differ.  A component whose registers need
    no reset (data that nobody looks at before it is written) says so with ``reset_less = True``.
    """
    if not isinstance(platform, VerilogPlatform):
        return component
    if hasattr(component, "blackbox"):
        component._MustUse__used = True
        return component.blackbox()
    return platform.instance(component)
