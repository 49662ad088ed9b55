"""Evaluation of a whole model on the calls of an application: as it is, and with the accelerator's integers."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from chessrnn.model.errors import require


class Hybrid(Protocol):
    """A model that runs in both ways."""

    def run(self, inputs: Any) -> dict[str, np.ndarray]:
        """Run with the accelerator's integers."""
        ...

    def run_float(self, inputs: Any) -> dict[str, np.ndarray]:
        """Run as it is."""
        ...


class Comparison(NamedTuple):
    """One output of a model, from both runs.

    Attributes
    ----------
    floats, integers : array
        The output; of several calls stacked along a new first axis.
    name : str
        Name of the output.
    calls : int
    """

    floats: np.ndarray
    integers: np.ndarray
    name: str
    calls: int


def compare(
    hybrid: Hybrid,
    calls: Iterable[Any],
    feedback: Mapping[str, str] | None = None,
    output: str | None = None,
) -> Comparison:
    """Run a model on all calls, in both ways.

    Parameters
    ----------
    hybrid : OnnxHybrid or TorchHybrid
    calls : iterable of inputs
        Inputs of each call as :meth:`run` takes them.
    feedback : mapping of str to str, optional
        Outputs that become inputs of the next call, by the name of the output; each way of running has its own.
    output : str, optional
        Name of the output that is compared; the first when left out.

    Raises
    ------
    InvalidValueError
        The model has no such output, or an output changes its shape between calls.
    """
    found: dict[str, list[np.ndarray]] = {"integers": [], "floats": []}
    kept: dict[str, dict[str, np.ndarray]] = {"integers": {}, "floats": {}}
    for inputs in calls:
        for way, run in (("integers", hybrid.run), ("floats", hybrid.run_float)):
            result = run({**inputs, **kept[way]} if feedback else inputs)
            for source, target in (feedback or {}).items():
                require(source in result, "--feedback", f"of an output ({', '.join(result)})", source)
                kept[way][target] = result[source]
            output = next(iter(result)) if output is None else output
            require(output in result, "--output", f"one of {', '.join(result)}", output)
            found[way].append(result[output])
    count = len(found["floats"])
    require(count > 0, "the inputs", "of at least one call", count)
    shapes = {one.shape for one in found["floats"]}
    require(len(shapes) == 1, f"the output {output!r}", "of the same shape in every call", sorted(shapes))
    arrays = [np.stack(found[way]) if count > 1 else found[way][0] for way in ("floats", "integers")]
    return Comparison(arrays[0], arrays[1], str(output), count)
