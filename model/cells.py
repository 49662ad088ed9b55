"""The recurrent cells as data: which rows of W they have, what is done with their sums, what they keep.

The matrix–vector engine knows of a cell only how many rows of W each hidden unit has; the arithmetic behind the
sums is written twice, in ``chessrnn.model.reference.cell_update`` and in ``chessrnn.hdl.cell_lane``, and shares what
stands here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """One row of W per hidden unit.

    Parameters
    ----------
    name : str
    function : str or None
        ``"sigmoid"`` or ``"tanh"`` of the pre-activation; ``None``: the cell goes on with the pre-activation.
    reads_x, reads_h : bool
        Whether the row's weights for x, for h may be other than zero.
    has_peephole : bool
        Whether the sum also has a weight times the cell state.
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
    title : str
        For people.
    gates : tuple of Gate
        In the order of the rows of W.
    functions : tuple of (str, str)
        Activations besides those of the gates: function, and the name of the format that it reads.
    has_state : bool
        Whether it keeps a state apart from h, in the format of cell.
    registers, activations : int
        On the longest way from the sums to h: registers besides those inside of activations, and activations.
    state_read : (int, int)
        When the state is wanted after the sums: registers and activations before it.
    state_written : (int, int)
        When the next state is there.
    products : int
        Multiplications of an update besides those of activations.
    may_be_projected : bool
        Whether a projection may follow.
    sum_format : str
        Name of the format that a sum is rounded to.
    stages : int
        Products that its gates are worked on in, one after the other, as many gates in each: more than one where a
        gate reads what another one makes.
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
    stages: int = 1

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Names in the order of the rows of W."""
        return tuple(gate.name for gate in self.gates)

    @property
    def peepholes(self) -> tuple[int, ...]:
        """Numbers of the gates that have a peephole."""
        return tuple(number for number, gate in enumerate(self.gates) if gate.has_peephole)

    @property
    def stage_gates(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the gates of every stage."""
        count = len(self.gates) // self.stages
        return tuple(tuple(range(stage * count, (stage + 1) * count)) for stage in range(self.stages))

    @property
    def num_activations(self) -> int:
        """Activations of a lane: of every gate, but stages take turns at one of each function."""
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
        ),
        # Gers and Schmidhuber 2000: I and F see the old cell state, O the new one; ONNX calls it P.
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
        ),
        # Cho et al. 2014 in the form of torch.nn.GRU (ONNX: linear_before_reset = 1): the reset gate scales
        # W_h·h + b, so the candidate's two sums stay apart.
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
        ),
        # Cho et al. 2014 as published (ONNX: linear_before_reset = 0): the reset gate scales h, so the candidate's
        # product waits for it.
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
        # torch.nn.RNN with relu: nothing to approximate, and nothing that bounds h but its format.
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
