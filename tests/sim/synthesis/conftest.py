"""A small Liberty library of our own, with linear delays, and what is synthesized with it."""

import pytest

from chessrnn.model.config import Config

# Delay and slope of every arc: base + resistance · load, in ns and pF; they do not depend on the slope before.
BASE, RESISTANCE = 0.01, 2.0
INPUT_CAPACITANCE = 0.002
LOADS, SLOPES = (0.001, 0.1, 0.2), (0.001, 0.5, 1.0)

# Name: (area, inputs, {output: function}, {input: sense is not needed}).
GATES = {
    "INV_X1": (1.0, "A", {"Y": "!A"}),
    "INV_X4": (2.0, "A", {"Y": "!A"}),
    "BUF_X1": (1.5, "A", {"Y": "A"}),
    "BUF_X4": (3.0, "A", {"Y": "A"}),
    "NAND2_X1": (2.0, "A B", {"Y": "!(A & B)"}),
    "NAND2_X4": (5.0, "A B", {"Y": "!(A B)"}),
    "NOR2_X1": (2.0, "A B", {"Y": "!(A | B)"}),
    "XOR2_X1": (4.0, "A B", {"Y": "(A ^ B)"}),
    "XNOR2_X1": (4.0, "A B", {"Y": "A * B + A' * B'"}),
    "AOI21_X1": (3.0, "A B C", {"Y": "!((A & B) | C)"}),
    "OAI21_X1": (3.0, "A B C", {"Y": "!((A | B) & C)"}),
    "FA_X1": (9.0, "A B CI", {"S": "A ^ B ^ CI", "CO": "(A B) | (CI (A | B))"}),
}


def table(name: str, values: list[float]) -> str:
    row = '"' + ", ".join(f"{value:.5f}" for value in values) + '"'
    return f"{name} (square) {{ values ({', '.join([row] * len(SLOPES))}); }}"


def arc(related: str, kind: str = "combinational", resistance: float = RESISTANCE) -> str:
    values = [BASE + resistance * load for load in LOADS]
    names = [name for edge in ("rise", "fall") for name in (f"cell_{edge}", f"{edge}_transition")]
    tables = " ".join(table(name, values) for name in names)
    return f'timing () {{ related_pin : "{related}"; timing_type : {kind}; timing_sense : non_unate; {tables} }}'


def power() -> str:
    energy = [0.001] * len(LOADS)
    return f"internal_power () {{ {table('rise_power', energy)} {table('fall_power', energy)} }}"


def gate(name: str) -> str:
    area, inputs, outputs = GATES[name]
    resistance = RESISTANCE / int(name[-1])
    pins = [f"pin ({pin}) {{ direction : input; capacitance : {INPUT_CAPACITANCE}; }}" for pin in inputs.split()]
    for pin, function in outputs.items():
        arcs = " ".join(arc(related, resistance=resistance) for related in inputs.split())
        limit = 0.1 * int(name[-1])
        pins.append(
            f'pin ({pin}) {{ direction : output; max_capacitance : {limit}; function : "{function}"; '
            f"{arcs} {power()} }}"
        )
    return f"cell ({name}) {{ area : {area}; cell_leakage_power : 1.0;\n  " + "\n  ".join(pins) + "\n}"


def setup() -> str:
    tables = " ".join(f'{edge}_constraint (scalar) {{ values ("0.02"); }}' for edge in ("rise", "fall"))
    return f'timing () {{ related_pin : "CK"; timing_type : setup_rising; {tables} }}'


def flip_flop(name: str = "DFF_X1", reset: bool = False) -> str:
    clear = 'clear : "!RN";' if reset else ""
    reset_pin = f"pin (RN) {{ direction : input; capacitance : {INPUT_CAPACITANCE}; }}" if reset else ""
    return f"""cell ({name}) {{ area : 8.0; cell_leakage_power : 2.0;
  ff (IQ, IQN) {{ clocked_on : "CK"; next_state : "D"; {clear} }}
  pin (D) {{ direction : input; capacitance : {INPUT_CAPACITANCE}; {setup()} }}
  pin (CK) {{ direction : input; clock : true; capacitance : {INPUT_CAPACITANCE}; {power()} }}
  {reset_pin}
  pin (Q) {{ direction : output; max_capacitance : 0.1; function : "IQ"; {arc("CK", "rising_edge")} {power()} }}
}}"""


LATCH = f"""cell (LATCH_X1) {{ area : 6.0;
  latch (IQ, IQN) {{ enable : "G"; data_in : "D"; }}
  pin (D) {{ direction : input; capacitance : {INPUT_CAPACITANCE}; }}
  pin (G) {{ direction : input; capacitance : {INPUT_CAPACITANCE}; }}
  pin (Q) {{ direction : output; function : "IQ"; }}
}}"""
CLOCK_GATE = f"""cell (CKG_X1) {{ area : 4.0; cell_leakage_power : 1.0; dont_use : true;
  clock_gating_integrated_cell : "latch_posedge";
  statetable ("CK E", "IQ") {{ table : "L L : - : L, L H : - : H, H - : - : N"; }}
  pin (IQ) {{ direction : internal; internal_node : "IQ"; }}
  pin (E) {{ direction : input; clock_gate_enable_pin : true; capacitance : {INPUT_CAPACITANCE}; {setup()} }}
  pin (CK) {{ direction : input; clock_gate_clock_pin : true; capacitance : {INPUT_CAPACITANCE}; {power()} }}
  pin (GCK) {{ direction : output; clock_gate_out_pin : true; state_function : "CK * IQ"; max_capacitance : 0.1;
    {arc("CK")} {power()} }}
}}"""
TIES = """cell (TIE0) { area : 0.5; dont_use : true; pin (Y) { direction : output; function : "0"; } }
cell (TIE1) { area : 0.5; dont_use : true; pin (Y) { direction : output; function : "1"; } }"""


def library_text(without: tuple[str, ...] = (), flip_flops: tuple[str, ...] = (flip_flop(),)) -> str:
    """The library, some gates left out."""
    cells = [gate(name) for name in GATES if name not in without]
    slopes, loads = (", ".join(map(str, values)) for values in (SLOPES, LOADS))
    return "\n".join(
        [
            "/* linear cells */",
            'library (linear) { delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V";',
            'current_unit : "1mA"; capacitive_load_unit (1, pf); pulling_resistance_unit : "1kohm";',
            'leakage_power_unit : "1nW"; nom_process : 1; nom_voltage : 1.0; nom_temperature : 25;',
            "input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;",
            "output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;",
            "slew_lower_threshold_pct_rise : 20; slew_upper_threshold_pct_rise : 80;",
            "slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_fall : 80;",
            "lu_table_template (square) { variable_1 : input_net_transition;",
            "  variable_2 : total_output_net_capacitance;",
            f'  index_1 ("{slopes}"); index_2 ("{loads}"); }}',
            *cells,
            *flip_flops,
            LATCH,
            CLOCK_GATE,
            TIES,
            "}",
            "",
        ]
    )


@pytest.fixture(scope="session")
def texts():
    """The functions of this file, for variants of the library."""
    return {"library": library_text, "flip_flop": flip_flop}


@pytest.fixture(scope="session")
def library_file(tmp_path_factory):
    """The library as a file."""
    path = tmp_path_factory.mktemp("liberty") / "linear.lib"
    path.write_text(library_text(), encoding="ascii")
    return path


@pytest.fixture(scope="session")
def smallest() -> Config:
    """A network whose accelerator has a few thousand gates."""
    return Config.from_dict(
        {
            "name": "smallest",
            "network": {"input_size": 2, "hidden_size": 3},
            "compression": {"block_size": 2},
            "quantization": {
                "x": "Q1.3", "h": "Q1.3", "weight_bits": 3, "weight_frac": [2, 2, 2, 2], "preact": "Q3.4",
                "gate": "Q2.4", "cell": "Q3.5", "bias_bits": 8,
            },
            "activation": {"kind": "shift", "segments": 2},
            "architecture": {"engine": "fast", "tile_rows": 2, "tile_cols": 1, "cell_lanes": 1},
        }
    )  # fmt: skip
