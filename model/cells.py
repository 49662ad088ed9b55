"""The recurrent cells as data: the rows of W that they have, the use of their sums, and the state that they keep.

All that the matrix–vector engine knows of a cell is the number of rows of W per hidden unit.  The arithmetic behind the
sums is written twice, in ``chessrnn.model.reference.cell_update`` and in ``chessrnn.hdl.cell_lane``; both use this
data.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """A gate: one row of W per hidden unit.

    Parameters
    ----------
    name : str
        Name in reports and messages.
    function : str or None
        Activation of the gate, ``"sigmoid"`` or ``"tanh"``; ``None`` for a gate whose pre-activation is used as it is.
    reads_x : bool
        Whether the weights of the row for x may be other than zero.
    reads_h : bool
        Whether the weights of the row for h may be other than zero.
    has_peephole : bool
        Whether a peephole weight times the cell state is added to the sum.
    """

    name: str
    function: str | None
    reads_x: bool = True
    reads_h: bool = True
    has_peephole: bool = False


@dataclass(frozen=True)
class Cell:
    """One kind of recurrent cell.

    Parameters
    ----------
    name : str
        Value of ``network.cell`` in configurations.
    title : str
        Name in texts for people.
    gates : tuple of Gate
        Gates in the order of the rows of W.
    functions : tuple of (str, str)
        Activations besides those of the gates, each with the name of the format that it reads.
    has_state : bool
        Whether the cell keeps a state besides h, in the format ``quantization.cell``.
    registers : int
        Number of registers on the longest path from the sums to h, those inside activations not counted.
    activations : int
        Number of activations on the longest path from the sums to h.
    state_read : (int, int)
        Time between the sums and the use of the state, as numbers of registers and of activations.
    state_written : (int, int)
        Time between the sums and the next state, as numbers of registers and of activations.
    products : int
        Number of multiplications of an update, those of activations not counted.
    may_be_projected : bool
        Whether a projection may follow the cell.
    sum_format : str
        Name of the format that a sum is rounded to.
    roundings : (int, int, int)
        Number of rounded sums of products between the sums and the use of the state, the next state, and h, on the
        longest path.  Each may take some cycles more (``chessrnn.model.schedule.rounding_registers``).
    stages : int
        Number of matrix products that the gates are divided into, the same number of gates in each.  The products run
        one after the other; a cell has several if a gate reads what another gate computes.
    """

    name: str
    title: str
    gates: tuple[Gate, ...]
    functions: tuple[tuple[str, str], ...]
    has_state: bool
    registers: int
    activations: int
    state_read: tuple[int, int]
    state_written: tuple[int, int]
    products: int
    may_be_projected: bool = False
    sum_format: str = "preact"
    roundings: tuple[int, int, int] = (0, 0, 0)
    stages: int = 1

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Names of the gates in the order of the rows of W."""
        return tuple(gate.name for gate in self.gates)

    @property
    def peepholes(self) -> tuple[int, ...]:
        """Indices of the gates that have a peephole."""
        return tuple(number for number, gate in enumerate(self.gates) if gate.has_peephole)

    @property
    def stage_gates(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the gates of every stage."""
        count = len(self.gates) // self.stages
        return tuple(tuple(range(stage * count, (stage + 1) * count)) for stage in range(self.stages))

    @property
    def num_activations(self) -> int:
        """Number of activation units of a lane: one per activation, but one per function in a cell of several stages.

        The stages of a cell share their units.
        """
        functions = [gate.function for gate in self.gates if gate.function is not None]
        return len(functions if self.stages == 1 else set(functions)) + len(self.functions)


CELLS = {
    cell.name: cell
    for cell in (
        # Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000; rows as in torch.nn.LSTM.
        Cell(
            "lstm",
            "LSTM",
            (Gate("I", "sigmoid"), Gate("F", "sigmoid"), Gate("G", "tanh"), Gate("O", "sigmoid")),
            functions=(("tanh", "cell"),),
            has_state=True,
            registers=6,
            activations=2,
            state_read=(2, 1),
            state_written=(4, 1),
            products=3,
            may_be_projected=True,
            roundings=(0, 1, 2),
        ),
        # Gers and Schmidhuber 2000: I and F read the old cell state, O the new one (input P of ONNX's LSTM).
        Cell(
            "lstm_peephole",
            "LSTM with peepholes",
            (
                Gate("I", "sigmoid", has_peephole=True),
                Gate("F", "sigmoid", has_peephole=True),
                Gate("G", "tanh"),
                Gate("O", "sigmoid", has_peephole=True),
            ),
            functions=(("tanh", "cell"),),
            has_state=True,
            registers=9,
            activations=2,
            state_read=(1, 0),
            state_written=(5, 1),
            products=6,
            may_be_projected=True,
            roundings=(0, 1, 2),
        ),
        # Cho et al. 2014 in the form of torch.nn.GRU (ONNX: linear_before_reset = 1): the reset gate scales
        # W_h·h + b, so the candidate has two separate sums.
        Cell(
            "gru",
            "GRU",
            (
                Gate("R", "sigmoid"),
                Gate("Z", "sigmoid"),
                Gate("NX", None, reads_h=False),
                Gate("NH", None, reads_x=False),
            ),
            functions=(("tanh", "preact"),),
            has_state=True,
            registers=7,
            activations=2,
            state_read=(4, 2),
            state_written=(6, 2),
            products=3,
            roundings=(1, 2, 2),
        ),
        # Cho et al. 2014 as published (ONNX: linear_before_reset = 0): the reset gate scales h, so the product of the
        # candidate waits for it.
        Cell(
            "gru_reset_first",
            "GRU, reset gate first",
            (Gate("R", "sigmoid"), Gate("Z", "sigmoid"), Gate("N", "tanh")),
            functions=(),
            has_state=True,
            registers=5,
            activations=1,
            state_read=(2, 1),
            state_written=(4, 1),
            products=2,
            roundings=(0, 1, 1),
            stages=3,
        ),
        # Elman 1990, torch.nn.RNN with tanh.
        Cell(
            "rnn",
            "Elman RNN",
            (Gate("H", "tanh"),),
            functions=(),
            has_state=False,
            registers=3,
            activations=1,
            state_read=(0, 0),
            state_written=(0, 0),
            products=0,
        ),
        # torch.nn.RNN with relu: no function is approximated, and nothing but its format bounds h.
        Cell(
            "rnn_relu",
            "Elman RNN with relu",
            (Gate("H", None),),
            functions=(),
            has_state=False,
            registers=2,
            activations=0,
            state_read=(0, 0),
            state_written=(0, 0),
            products=0,
            sum_format="h",
        ),
    )
}
LSTM_GATES = CELLS["lstm"].gate_names
