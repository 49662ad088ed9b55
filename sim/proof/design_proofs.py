"""Claims about the emitted Verilog of a whole design, at the ports of its top module."""

import numpy as np
from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, Signal, Value
from amaranth.lib.wiring import In

from chessrnn.hdl.framing import X_ERROR_BITS
from chessrnn.hdl.verilog import generate, top_members, top_module
from chessrnn.model.config import Config
from chessrnn.model.cost.design_report import beat_latency
from chessrnn.model.errors import require
from chessrnn.model.memory_image import initialised_memories, mem_text, memory_words
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import mem_file
from chessrnn.sim.proof.checker import Checker, to_rtlil, waits
from chessrnn.sim.proof.model_checker import BOUNDED, Claim, Problem, Proof

PREFIX = "d"
# Modules that compute values and decide nothing about when a beat is offered.
VALUES = ("pe_", "accumulator_", "cell_lane")
# The design of the tests: two steps fit into a few dozen cycles, as almost no register delays its values.
SMALL = preset("tiny").replace(
    {
        "name": "proved",
        "network.input_size": 5,
        "network.hidden_size": 4,
        "compression.block_size": 2,
        "architecture.engine": "direct",
        "architecture.arithmetic": "multiplier",
        "architecture.tile_rows": 8,
        "architecture.tile_cols": 3,
        "architecture.pipeline.memory_register": False,
        "architecture.pipeline.operand_register": False,
        "architecture.pipeline.multiplier_stages": 0,
        "architecture.pipeline.adder_levels": 0,
    }
)
# Two copies with all of their arithmetic are compared, so that it has few bits.
TWIN = preset("tiny").replace(
    {
        "name": "twin",
        "network.cell": "rnn",
        "network.input_size": 3,
        "network.hidden_size": 2,
        "compression.block_size": 1,
        "quantization.x": "Q1.2",
        "quantization.h": "Q1.2",
        "quantization.weight_bits": 3,
        "quantization.weight_frac": 2,
        "quantization.bias_bits": 8,
        "quantization.preact": "Q2.3",
        "quantization.gate": "Q2.3",
        "activation.kind": "shift",
        "activation.segments": 4,
        "architecture.engine": "direct",
        "architecture.arithmetic": "multiplier",
        "architecture.tile_rows": 1,
        "architecture.tile_cols": 1,
    }
)
# Sequence ends that the checker remembers between x and h, more than can be under way.
REMEMBERED = 8


def add_design(m: Module, config: Config, reset, driven: dict, suffix: str = "") -> dict[str, Signal]:
    """Add an instance of the emitted top module; returns its outputs by name."""
    members, name = top_members(config), f"design{suffix}"
    outputs = {n: Signal(member.shape, name=f"{name}_{n}") for n, member in members.items() if member.flow != In}
    ports = {f"i_{n}": driven[n] for n, member in members.items() if member.flow == In}
    ports |= {f"o_{n}": signal for n, signal in outputs.items()}
    m.submodules[name] = Instance(top_module(PREFIX), i_clk=ClockSignal(), i_rst=reset, **ports)
    return outputs


def free_inputs(config: Config) -> dict[str, int]:
    """Width of every input of the top module but clock and reset."""
    return {
        name: len(Value.cast(Signal(member.shape))) for name, member in top_members(config).items() if member.flow == In
    }


class DesignChecker(Checker):
    """Watches the streams that leave a design, whatever its inputs do."""

    FROM_START = ("quiet_in_reset",)

    def __init__(self, config: Config):
        self.config, self.streams = config, self.streams_of(config)
        super().__init__(free_inputs(config), self.claims_of(config))

    @staticmethod
    def streams_of(config: Config) -> list[str]:
        """Names of the streams that leave the design."""
        return [name for name in ("h", "y", "state_out") if f"{name}_valid" in top_members(config)]

    @classmethod
    def claims_of(cls, config: Config) -> tuple[Claim, ...]:
        """The claims for a design, two of them for each stream."""
        claims = [
            Claim("quiet_in_reset", "in reset, from the first cycle on, all valid and ready outputs, x_error and "
                  "matvec_active are 0"),
            Claim("error_kept", "a bit of x_error that is 1 stays 1 until reset"),
        ]  # fmt: skip
        for name in cls.streams_of(config):
            claims.append(Claim(f"{name}_kept", f"{name}_valid, once 1, stays 1 until the beat is taken"))
            claims.append(Claim(f"{name}_stable", f"{name}_data does not change while a beat waits"))
        return tuple(claims)

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        outputs = add_design(m, self.config, reset, {name: getattr(self, name) for name in free_inputs(self.config)})
        quiet = [value for name, value in outputs.items() if name.endswith(("_valid", "_ready"))]
        errors = Signal(X_ERROR_BITS)
        m.d.sync += errors.eq(outputs["x_error"])
        broken: dict[str, Value] = {
            "quiet_in_reset": reset & Cat(*quiet, outputs["x_error"], outputs["matvec_active"]).any(),
            "error_kept": ~reset & (errors & ~outputs["x_error"]).any(),
        }
        for name in self.streams:
            payload = ("index", "logit") if name == "y" else ("data",)
            values = Cat(*(outputs[f"{name}_{field}"] for field in payload))
            kept, stable = waits(m, name, reset, outputs[f"{name}_valid"], getattr(self, f"{name}_ready"), values)
            broken |= {f"{name}_kept": kept, f"{name}_stable": stable}
        return broken


class StreamChecker(Checker):
    """Counts steps at x by the documented rule, and compares what follows at h.

    Steps that are complete at x and not yet at h are counted, and the ends of their sequences are remembered in order.
    Resets occur in the first cycle only, which lets the search reach further; :class:`DesignChecker` has them anywhere.
    """

    CLAIMS = (
        Claim("h_last_stable", "h_last does not change while a beat of h waits", BOUNDED),
        Claim("h_after_its_step", "no beat of h is offered before the last beat of its step of x was taken", BOUNDED),
        Claim("h_last_in_place", "h_last is 1 on the last beat of a step whose beats of x ended with x_last, and on no "
              "other, also after a framing error", BOUNDED),
        Claim("h_comes", "while h is taken and a step of x is complete, h_valid is 0 for at most {latency} cycles in a "
              "row: no step is lost", BOUNDED),
        Claim("x_ready_returns", "while h is taken, x_ready is 0 for at most {bound} cycles in a row, also after a "
              "framing error", BOUNDED),
    )  # fmt: skip

    MONITORED = Claim("no_false_alarm", "beat_error stays 0, whatever the framing of x is", BOUNDED)

    def __init__(self, config: Config):
        self.config, self.bound, self.latency = config, recovery_cycles(config), answer_cycles(config)
        super().__init__(free_inputs(config), self.claims_of(config), restarts=False)

    @classmethod
    def claims_of(cls, config: Config) -> tuple[Claim, ...]:
        """The claims with the bound of a design."""
        values = {"bound": recovery_cycles(config), "latency": answer_cycles(config)}
        claims = [*cls.CLAIMS, *([cls.MONITORED] if config.architecture.monitor else [])]
        return tuple(Claim(c.name, c.statement.format(**values), c.method) for c in claims)

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        config = self.config
        x_blocks, h_blocks = config.num_input_blocks, config.num_output_blocks
        outputs = add_design(m, config, reset, {name: getattr(self, name) for name in free_inputs(config)})
        for name in ("y", "state_out"):
            if f"{name}_valid" in outputs:
                self.assume(getattr(self, f"{name}_ready"))
        h_valid, h_last, x_ready = outputs["h_valid"], outputs["h_last"], outputs["x_ready"]

        beat, place = Signal(range(max(2, x_blocks))), Signal(range(max(2, h_blocks)))
        steps, ends = Signal(range(REMEMBERED + 1)), Signal(REMEMBERED)
        x_taken, h_taken = self.x_valid & x_ready, h_valid & self.h_ready
        step_in = x_taken & (self.x_last | (beat == x_blocks - 1))
        step_out = h_taken & (place == h_blocks - 1)
        with m.If(x_taken):
            m.d.sync += beat.eq(Mux(step_in, 0, beat + 1))
        with m.If(h_taken):
            m.d.sync += place.eq(Mux(step_out, 0, place + 1))
        m.d.sync += steps.eq(steps + step_in - step_out)
        left = Mux(step_out, ends >> 1, ends)
        m.d.sync += ends.eq(
            left | ((step_in & self.x_last) << (steps - step_out)[: REMEMBERED.bit_length()])[:REMEMBERED]
        )

        waited, before = Signal(), Signal()
        m.d.sync += [waited.eq(h_valid & ~self.h_ready), before.eq(h_last)]
        blocked = Signal(range(self.bound + 2))
        with m.If(x_ready | ~self.h_ready):
            m.d.sync += blocked.eq(0)
        with m.Elif(blocked <= self.bound):
            m.d.sync += blocked.eq(blocked + 1)
        silent = Signal(range(self.latency + 2))
        with m.If(h_valid | (steps == 0) | ~self.h_ready):
            m.d.sync += silent.eq(0)
        with m.Elif(silent <= self.latency):
            m.d.sync += silent.eq(silent + 1)
        return {
            "h_last_stable": waited & h_valid & (h_last != before),
            "h_after_its_step": h_valid & (steps == 0),
            "h_last_in_place": h_valid & (h_last != (ends[0] & (place == h_blocks - 1))),
            "h_comes": silent > self.latency,
            "x_ready_returns": blocked > self.bound,
            **({"no_false_alarm": outputs["beat_error"]} if config.architecture.monitor else {}),
        }


def recovery_cycles(config: Config) -> int:
    """Cycles for which x may have to wait while every beat of h is taken: those in which one step makes room."""
    return Schedule(config).initiation_interval


def answer_cycles(config: Config) -> int:
    """Cycles for which h may be silent although a step of x is complete, or cut off at its first beat by x_last."""
    return beat_latency(Schedule(config))["first_x_to_first_h"]


class TwinChecker(Checker):
    """Two copies of the design, of which one sees other inputs wherever inputs must not matter."""

    CLAIMS = (
        Claim("idle_inputs_ignored", "outside reset, x_valid, x_data and x_last do not matter while x_ready is 0, "
              "x_data and x_last not while x_valid is 0, and h_ready not while h_valid is 0: outputs stay the same"),
    )  # fmt: skip

    def __init__(self, config: Config):
        self.config = config
        inputs = free_inputs(config)
        super().__init__({**inputs, **{f"other_{name}": width for name, width in inputs.items()}}, self.CLAIMS)

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        inputs = {name: getattr(self, name) for name in free_inputs(self.config)}
        others = {name: getattr(self, f"other_{name}") for name in inputs}
        first = add_design(m, self.config, reset, inputs, "_a")
        taken = self.x_valid & first["x_ready"]
        second = add_design(m, self.config, reset, {
            **inputs,
            "x_valid": Mux(first["x_ready"] | reset, self.x_valid, others["x_valid"]),
            "h_ready": Mux(first["h_valid"] | reset, self.h_ready, others["h_ready"]),
            **{name: Mux(taken | reset, inputs[name], others[name]) for name in ("x_data", "x_last")},
        }, "_b")  # fmt: skip
        return {"idle_inputs_ignored": Cat(first[name] != second[name] for name in first).any()}


def design_proofs(config: Config) -> tuple[Proof, ...]:
    """The proofs of a design's emitted Verilog, for all weights and all values that its arithmetic could compute.

    Raises
    ------
    InvalidValueError
        The design is bidirectional: its steps of h wait for the end of the sequence.
    """
    require(not config.network.bidirectional, "network.bidirectional", "false for a proof", True)
    cut = tuple(f"{PREFIX}_{beginning}" for beginning in VALUES)

    subject = f"the emitted Verilog of {config.name}, whatever its arithmetic computes"

    def problem(checker: type[Checker]) -> Problem:
        return Problem(to_rtlil(checker(config)), generate(config, PREFIX), cut)  # pyright: ignore[reportCallIssue, reportArgumentType]

    return (
        Proof("ports", subject, DesignChecker.claims_of(config), lambda: problem(DesignChecker)),
        Proof("steps", subject, StreamChecker.claims_of(config), lambda: problem(StreamChecker)),
    )


def twin_proof(config: Config = TWIN) -> Proof:
    """The proof that idle inputs do not matter, with all arithmetic and pseudo-random weights."""

    def problem() -> Problem:
        weights = random_weights(config, np.random.default_rng(0))
        words = memory_words(weights)
        files = {
            mem_file(PREFIX, spec.name): mem_text(spec, words[spec.name], config.fingerprint)
            for spec in initialised_memories(config)
        }
        return Problem(to_rtlil(TwinChecker(config)), generate(config, PREFIX), equal_start=True, files=files)

    return Proof("twins", f"two copies of {config.name}, with arithmetic and weights", TwinChecker.CLAIMS, problem)
