"""A design is emitted as named modules, each of them once.

Amaranth emits every instance of a component as a module of its own: a tile of 256 equal processing elements would be
elaborated, written and synthesized 256 times.  Components therefore pass through :func:`shared`.  Under a
:class:`VerilogPlatform` they are replaced by instances of one common module; in simulation they remain as they are.
"""

import re
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Instance, ResetSignal, Value
from amaranth.lib import wiring


class VerilogPlatform:
    """Collects the modules of a design, each of which is emitted once.

    Attributes
    ----------
    modules : dict of str to str
        RTLIL text by module name, in the order of first use.
    """

    def __init__(self):
        self.modules: dict[str, str] = {}

    def emit(self, component: wiring.Component) -> str:
        """Elaborate ``component``, unless an equal one was elaborated before; returns the name of its module."""
        name = component.module_name
        # Equal components are elaborated once; this keeps Amaranth from warning that the others are unused.
        component._MustUse__used = True
        if name not in self.modules:
            self.modules[name] = ""  # the module is listed before those that it instantiates
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
        """An instance of the module of ``component``, connected to the component's ports."""
        name = self.emit(component)
        ports = {}
        for path, member, value in component.signature.flatten(component):
            direction = "i" if member.flow is wiring.In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
        for port, signal in (("clk", ClockSignal), ("rst", ResetSignal)):
            if re.search(rf"^\s*wire .*\binput \d+\s+\\{port}$", self.modules[name], re.MULTILINE):
                ports[f"i_{port}"] = signal()
        return Instance(name, **ports)


def shared(component: wiring.Component, platform) -> Any:  # the stubs of Component and Instance lack elaborate()
    """The submodule to add for ``component``; the ports of ``component`` itself remain the ones to connect.

    Components that differ must have different ``module_name``.  A component whose registers need no reset, because
    their contents are not used before they are written, declares ``reset_less = True``.
    """
    if not isinstance(platform, VerilogPlatform):
        return component
    if hasattr(component, "blackbox"):
        component._MustUse__used = True
        return component.blackbox()
    return platform.instance(component)
