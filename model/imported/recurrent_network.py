"""Description of a float recurrent network: a list of layers, each with its arrays.

The equations of every cell are in :mod:`chessrnn.model.imported.float_evaluation`.
"""

from dataclasses import dataclass, field

import numpy as np

from chessrnn.model.errors import require

# Gates of a cell in PyTorch's order; ``rnn`` has one sum and no gate.
CELL_GATES = {"lstm": ("I", "F", "G", "O"), "gru": ("R", "Z", "N"), "rnn": ("N",)}
DIRECTIONS = ("forward", "reverse", "bidirectional")
ACTIVATIONS = ("tanh", "relu")
# Limits on what a file may ask for: far above any network that fits an accelerator, far below a machine's memory.
MAX_SIZE = 65536
MAX_LAYERS = 256
MAX_ELEMENTS = 1 << 28


@dataclass(frozen=True)
class DirectionWeights:
    """Arrays of one direction of a layer, in float64: G gates, H units, X inputs, and h has P elements.

    Attributes
    ----------
    w_x : (G·H, X)
    w_h : (G·H, P)
    bias_x, bias_h : (G·H,)
        Biases, zero where the file has none.  They are kept apart because a GRU multiplies only the second by a gate.
    peepholes : (3, H) or None
        Peephole weights of the gates I and F (times the old cell state) and O (times the new one).
    projection : (P, H) or None
        Matrix of h = projection · (o·tanh(c)); without it P = H.
    initial_h : (1 or B, P) or None
    initial_c : (1 or B, H) or None
        First state; ``None`` is zero.
    """

    w_x: np.ndarray
    w_h: np.ndarray
    bias_x: np.ndarray
    bias_h: np.ndarray
    peepholes: np.ndarray | None = None
    projection: np.ndarray | None = None
    initial_h: np.ndarray | None = None
    initial_c: np.ndarray | None = None


@dataclass(frozen=True)
class RecurrentLayer:
    """One layer of a float recurrent network.

    Attributes
    ----------
    name : str
        Name of the layer in its file, for messages.
    cell : str
        ``"lstm"``, ``"gru"`` or ``"rnn"``.
    weights : tuple of DirectionWeights
        Weights of each direction, the forward one first.
    direction : str
        ``"forward"``, ``"reverse"`` or ``"bidirectional"``.
    linear_before_reset : bool
        For a GRU: whether the reset gate multiplies W_hn·h + b_hn (PyTorch) instead of h (the default of ONNX).
    activation : str
        For an RNN: ``"tanh"`` or ``"relu"``.
    state_inputs : tuple of str
        Graph inputs of the file that supply the first state at run time.

    Raises
    ------
    InvalidValueError
        A shape does not fit, a size is out of bounds, or a number is not finite.
    """

    name: str
    cell: str
    weights: tuple[DirectionWeights, ...]
    direction: str = "forward"
    linear_before_reset: bool = True
    activation: str = "tanh"
    state_inputs: tuple[str, ...] = ()

    def __post_init__(self):
        require(self.cell in CELL_GATES, f"{self.name}: cell", f"one of {', '.join(CELL_GATES)}", self.cell)
        rule = f"one of {', '.join(DIRECTIONS)}"
        require(self.direction in DIRECTIONS, f"{self.name}: direction", rule, self.direction)
        rule = f"one of {', '.join(ACTIVATIONS)}"
        require(self.activation in ACTIVATIONS, f"{self.name}: activation", rule, self.activation)
        count = 2 if self.direction == "bidirectional" else 1
        require(len(self.weights) == count, f"{self.name}: directions", f"{count}", len(self.weights))
        object.__setattr__(self, "weights", tuple(self._checked(index) for index in range(count)))

    def _checked(self, index: int) -> DirectionWeights:
        """Check the shapes of a direction's arrays, and return them as read-only float64."""
        given, gates = self.weights[index], len(CELL_GATES[self.cell])
        where = f"{self.name}{' reverse' if index else ''}"
        for name in ("w_x", "w_h"):
            value = getattr(given, name)
            require(value.ndim == 2, f"{where}: {name}", "a matrix", value.shape)
        rows = given.w_x.shape[0]
        require(rows % gates == 0, f"{where}: rows of w_x", f"a multiple of {gates} gates", rows)
        size_x, size_h, width = given.w_x.shape[1], rows // gates, given.w_h.shape[1]
        for name, size in (("input_size", size_x), ("hidden_size", size_h), ("projection_size", width)):
            require(1 <= size <= MAX_SIZE, f"{where}: {name}", f"from 1 to {MAX_SIZE}", size)
        if given.projection is None:
            require(width == size_h, f"{where}: w_h", f"of shape {(rows, size_h)}", given.w_h.shape)
        first = self.weights[0]
        for name, size, wanted in (
            ("input_size", size_x, first.w_x.shape[1]),
            ("hidden_size", size_h, first.w_x.shape[0] // gates),
            ("projection_size", width, first.w_h.shape[1]),
        ):
            require(size == wanted, f"{where}: {name}", f"{wanted} as forward", size)
        lstm = self.cell == "lstm"
        shapes = {
            "w_x": (rows, size_x),
            "w_h": (rows, width),
            "bias_x": (rows,),
            "bias_h": (rows,),
            "peepholes": (3, size_h) if lstm else None,
            "projection": (width, size_h) if lstm else None,
            "initial_h": (None, width),
            "initial_c": (None, size_h) if lstm else None,
        }
        arrays = {}
        for name, shape in shapes.items():
            value = getattr(given, name)
            if value is None:
                arrays[name] = None
                continue
            require(shape is not None, f"{where}: {name}", f"left out for cell {self.cell}", value.shape)
            if shape[0] is None:
                shape = (value.shape[0] if value.ndim == 2 and value.shape[0] else 1, *shape[1:])
            require(value.shape == shape, f"{where}: {name}", f"of shape {shape}", value.shape)
            value = np.array(value, dtype=np.float64)
            finite = np.isfinite(value)
            if not finite.all():
                require(False, f"{where}: {name}", "made of finite numbers", float(value[~finite][0]))
            value.setflags(write=False)
            arrays[name] = value
        return DirectionWeights(**arrays)

    @property
    def num_directions(self) -> int:
        """Number of directions: 2 for a bidirectional layer, else 1."""
        return len(self.weights)

    @property
    def input_size(self) -> int:
        """Number X of input elements."""
        return self.weights[0].w_x.shape[1]

    @property
    def hidden_size(self) -> int:
        """Number H of hidden units."""
        return self.weights[0].w_x.shape[0] // len(CELL_GATES[self.cell])

    @property
    def projection_size(self) -> int | None:
        """Number P of projected elements; ``None`` without a projection."""
        return None if self.weights[0].projection is None else self.weights[0].projection.shape[0]

    @property
    def state_size(self) -> int:
        """Number of elements of h: P with a projection, H without."""
        return self.weights[0].w_h.shape[1]

    @property
    def output_size(self) -> int:
        """Number of output elements per step, with both directions side by side."""
        return self.num_directions * self.state_size

    @property
    def peephole(self) -> bool:
        """Whether gates read the cell state."""
        return any(weights.peepholes is not None for weights in self.weights)

    @property
    def num_weights(self) -> int:
        """Number of matrix elements, including projections but neither biases nor peepholes."""
        return sum(w.w_x.size + w.w_h.size + (0 if w.projection is None else w.projection.size) for w in self.weights)

    @property
    def num_biases(self) -> int:
        """Number of biases after the two of a gate are added, except where a GRU keeps them apart."""
        apart = 1 if self.cell == "gru" and self.linear_before_reset else 0
        return self.num_directions * (len(CELL_GATES[self.cell]) + apart) * self.hidden_size


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer in float64: y = weight · h + bias.

    Attributes
    ----------
    name : str
        Name of the module in its file.
    weight : (V, P)
    bias : (V,)
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray

    def apply(self, h: np.ndarray) -> np.ndarray:
        """Compute y (..., V) of h (..., P)."""
        return h @ self.weight.T + self.bias


@dataclass(frozen=True)
class RecurrentNetwork:
    """Float recurrent network of layers, each of which reads the output of the one before.

    Attributes
    ----------
    layers : tuple of RecurrentLayer
    source : str
        Path of the file, for messages.
    lengths : int64 array (B,) or None
        Sequence lengths, where the file fixes them.
    ignored : tuple of str
        Other contents of the file, by name.
    notes : tuple of str
        Remarks on what the file does not store, or on its inputs.
    linear : LinearLayer or None
        Linear layer of the file that reads the output of the last layer.

    Raises
    ------
    InvalidValueError
        There is no layer, there are too many, or the sizes of adjacent layers do not fit.
    """

    layers: tuple[RecurrentLayer, ...]
    source: str = ""
    lengths: np.ndarray | None = None
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    linear: LinearLayer | None = None

    def __post_init__(self):
        require(1 <= len(self.layers) <= MAX_LAYERS, "number of layers", f"from 1 to {MAX_LAYERS}", len(self.layers))
        for before, layer in zip(self.layers, self.layers[1:], strict=False):
            rule = f"{before.output_size}, the output of {before.name}"
            require(layer.input_size == before.output_size, f"{layer.name}: input_size", rule, layer.input_size)

    @property
    def input_size(self) -> int:
        """Number X of input elements of the first layer."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int:
        """Number of output elements of the last layer per step."""
        return self.layers[-1].output_size
