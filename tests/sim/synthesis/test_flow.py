"""Synthesis of small Verilog: areas that can be counted by hand, designs that must be refused, timing."""

import pytest

from chessrnn.model.errors import InvalidValueError, MissingToolError
from chessrnn.sim.synthesis import opensta, yosys
from chessrnn.sim.synthesis.flow import Choices, synthesize
from chessrnn.sim.synthesis.library import load_libraries
from chessrnn.sim.synthesis.memory_macro import MemoryModel, SramMacro
from chessrnn.sim.synthesis.netlist import GENERIC_TRANSISTORS, TRANSISTORS_PER_GATE_EQUIVALENT, MemoryMacro
from chessrnn.sim.synthesis.yosys import EFFORTS, SynthesisError, ToolError, prepare, run_passes

TWICE = """
module half(input clk, input [3:0] a, b, output reg [3:0] y);
  always @(posedge clk) y <= ~(a & b);
endmodule
module twice(input clk, input [3:0] a, b, c, output [3:0] y, z);
  half first(.clk(clk), .a(a), .b(b), .y(y));
  half second(.clk(clk), .a(y), .b(c), .y(z));
endmodule
"""
MEMORY = """
module holder(input clk, input [2:0] a, output [7:0] d, e);
  chessrnn_rom #(.WIDTH(8), .DEPTH(8), .ADDR_WIDTH(3), .INIT_FILE("x.mem"))
    one(.clk(clk), .en(1'b1), .addr(a), .data(d));
  chessrnn_ram #(.WIDTH(8), .DEPTH(6), .ADDR_WIDTH(3)) two(.clk(clk), .write_en(1'b1), .write_addr(a), .write_data(d),
    .read_en(1'b1), .read_addr(a), .read_data(e));
endmodule
"""
# Nine adders in a row, too slow for any clock.
SLOW = """
module slow(input clk, input [15:0] a, output reg [15:0] y);
  reg [15:0] x;
  always @(posedge clk) begin x <= a; y <= x * x * x * x; end
endmodule
"""


@pytest.fixture(scope="module")
def library(library_file):
    return load_libraries([library_file])[0]


@pytest.mark.needs("opensta")
def test_a_module_is_counted_as_often_as_it_is_there(library, tmp_path):
    result = synthesize(TWICE, "twice", library, tmp_path, ports_fraction=0.0)
    half = result.areas["half"]
    # Four NAND2 of 2 and four flip-flops of 8; repair may add buffers.
    assert (half.own_sequential, half.own_combinational) == (32.0, 8.0)
    assert (half.flip_flops, half.depth, result.netlist.counts["half"]) == (4, 1, 2)
    assert result.areas["twice"].total == 2 * half.total + result.areas["twice"].own
    assert "half" in result.netlist.verilog(library.liberty, lambda instance: "")


def test_generic_gates_count_transistors(tmp_path):
    result = synthesize(TWICE, "twice", None, tmp_path)
    transistors = 4 * (GENERIC_TRANSISTORS["$_NAND_"] + GENERIC_TRANSISTORS["$_DFF_P_"])
    assert result.areas["half"].total == transistors / TRANSISTORS_PER_GATE_EQUIVALENT
    assert result.timing is None


def test_memories_are_macros(tmp_path):
    result = synthesize(MEMORY, "holder", None, tmp_path)
    found = {(macro.width, macro.depth, macro.two_port): count for macro, count, _ in result.netlist.memories()}
    assert found == {(8, 8, False): 1, (8, 6, True): 1}
    assert result.areas["holder"].total == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("input g, d, output reg q); always @* if (g) q = d;", "design must hold no latch, not 'bad/"),
        (
            "input clk, input [3:0] a, input [7:0] d, output reg [7:0] q); reg [7:0] mem[0:15];"
            " always @(posedge clk) begin mem[a] <= d; q <= mem[a]; end",
            "memory must be behind chessrnn_rom or chessrnn_ram, not 'bad/",
        ),
    ],
)
def test_refused_designs(tmp_path, body, message):
    with pytest.raises(SynthesisError, match=message):
        prepare(f"module bad({body} endmodule", "bad", None, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "module bad(input a, output y); wire x = ~(x & a); assign y = x; endmodule",
        "module bad(input a, output y); nothing here(.a(a), .y(y)); endmodule",
        "module bad(input a, output y); assign y = ; endmodule",
    ],
    ids=["loop", "missing module", "syntax"],
)
def test_errors_of_yosys_reach_the_user(tmp_path, source):
    with pytest.raises(ToolError, match="yosys must finish without an error, not"):
        prepare(source, "bad", None, tmp_path)


def test_errors_of_abc_fail_the_run(library_file, tmp_path):
    (tmp_path / "abc.script").write_text("strash\nno_such_command\n", encoding="ascii")
    source = tmp_path / "x.v"
    source.write_text("module x(input a, b, output y); assign y = a & b; endmodule", encoding="ascii")
    passes = [f"read_verilog {source}", "synth", f"abc -liberty {library_file} -script {tmp_path / 'abc.script'}"]
    with pytest.raises(ToolError, match=r"yosys must finish without an error, not .*\(log: "):
        run_passes(passes, tmp_path, "broken")


def test_without_yosys(monkeypatch, tmp_path):
    monkeypatch.setattr(yosys.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match="pyosys must be installed"):
        prepare(TWICE, "twice", None, tmp_path)


def test_without_opensta_there_is_area_and_a_note(library, monkeypatch, tmp_path):
    monkeypatch.setattr(opensta, "available", lambda: False)
    result = synthesize(TWICE, "twice", library, tmp_path)
    assert result.timing is None and "OpenSTA (sta) is not installed" in result.note
    assert result.areas["twice"].total > 0


def test_missing_opensta_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(opensta, "available", lambda: False)
    with pytest.raises(MissingToolError, match="OpenSTA .* must be installed"):
        opensta.run([], tmp_path, "none")


# Ten times an inverter's input for every load.
WIRES = """
  wire_load ("long") { capacitance : 0.02; resistance : 0; area : 0; slope : 1; fanout_length (1, 1); }
  default_wire_load : "long";
  default_wire_load_mode : top;
"""


def with_wires(library_file, folder):
    text = library_file.read_text(encoding="ascii")
    place = text.index("cell (")
    path = folder / "wires.lib"
    path.write_text(text[:place] + WIRES + text[place:], encoding="ascii")
    return load_libraries([path])[0]


@pytest.mark.needs("opensta")
def test_fo4_is_that_of_the_table(library, tmp_path):
    # Base 10 ps, and 2 ns/pF times four inputs of 2 fF.
    assert opensta.measure_fo4(library.liberty, tmp_path) == pytest.approx(26e-12, rel=1e-3)


@pytest.mark.needs("opensta")
def test_fo4_is_without_wires_and_a_path_is_not(library, library_file, tmp_path):
    wires = with_wires(library_file, tmp_path)
    assert opensta.measure_fo4(wires.liberty, tmp_path) == pytest.approx(26e-12, rel=1e-3)
    without, longer = (synthesize(TWICE, "twice", cells, tmp_path, ports_fraction=0.0) for cells in (library, wires))
    assert longer.timing.period > 1.5 * without.timing.period


@pytest.mark.needs("opensta")
def test_paths_of_logic_and_from_memories_are_told_apart(library, tmp_path):
    text = (
        MEMORY
        + """
        module both(input clk, input [2:0] a, output reg [7:0] y);
          wire [7:0] d, e;
          holder h(.clk(clk), .a(a), .d(d), .e(e));
          reg [7:0] x;
          always @(posedge clk) begin x <= d; y <= x * x; end
        endmodule"""
    )
    timing = synthesize(text, "both", library, tmp_path, ports_fraction=0.0).timing
    memory, logic = timing.longest(from_memory=True), timing.longest(from_memory=False)
    assert (memory.start, memory.end) == (("holder", "memory one"), ("holder", "memory two"))
    assert logic.start == ("both", "x") and logic.end == ("both", "y")
    assert timing.lengths == (logic.period, max(logic.period, memory.period))


@pytest.mark.needs("opensta")
def test_path_of_known_gates(library, tmp_path):
    result = synthesize(TWICE, "twice", library, tmp_path, ports_fraction=0.0)
    stage = next(s for s in result.timing.stages if s.start == ("half", "y") and s.end == ("half", "y"))
    # Clock to output, a NAND2, setup: each arc is 10 ps and 2 ns/pF times its load.
    load = library.liberty.nand2.pins["A"].capacitance * 1e12
    spent = 3 * 0.01 + 2.0 * load * 3 + 0.02
    assert stage.cells <= 4
    assert stage.period * 1e9 < spent + 0.03
    assert stage.period * 1e9 > 0.01 + 0.01 + 0.02
    assert set(stage.spent) <= {"half", "twice"}
    assert result.timing.period == max(s.period for s in result.timing.stages)


@pytest.mark.slow
@pytest.mark.needs("opensta")
def test_effort_goes_to_modules_of_long_paths(library, tmp_path):
    result = synthesize(SLOW + TWICE, "slow", library, tmp_path, target_fo4=20, ports_fraction=0.0)
    assert result.efforts == {"slow": "fast"}
    easy = synthesize(TWICE, "twice", library, tmp_path, ports_fraction=0.0)
    assert set(easy.efforts.values()) <= {"dense", "small", "loose"}


@pytest.mark.slow
def test_modules_are_as_small_as_any_effort_makes_them(library, library_file, tmp_path):
    prepared = prepare(SLOW, "slow", library_file, tmp_path)
    choices = Choices(prepared, library.liberty, library_file, 1e6, tmp_path)
    own = {effort: choices.netlist({"slow": effort}).areas(library.liberty)["slow"].own for effort in EFFORTS}
    chosen = choices.smallest()
    assert own[chosen["slow"]] == min(own.values())
    # Whoever is blamed goes on to the smallest of the later efforts, and stays where there is none.
    order = EFFORTS.index(chosen["slow"]) + 1
    later = {effort: own[effort] for effort in EFFORTS[order:]}
    assert choices.harder(chosen, {"slow", "memory"}) == ({"slow": min(later, key=later.get)} if later else {})
    assert choices.harder({"slow": EFFORTS[-1]}, {"slow"}) == {}
    assert choices.harder(chosen, set()) == {}


HELD = """
module held(input clk, input on, input [5:0] a, input [1:0] b, output reg [5:0] y, output reg [1:0] z);
  reg [5:0] e;
  always @(posedge clk) begin e <= a; if (^e) y <= a; if (on) z <= b; end
endmodule
"""


def test_clock_gates_stop_registers_with_a_common_enable(library, monkeypatch, tmp_path):
    monkeypatch.setattr(opensta, "available", lambda: False)
    plain = synthesize(HELD, "held", library, tmp_path).areas["held"]
    result = synthesize(HELD, "held", library, tmp_path, clock_gates=True)
    gated = result.areas["held"]
    assert plain.flip_flops == gated.flip_flops == 14
    # One gate for the six registers of y; the two of z are too few and keep their multiplexers.
    assert result.netlist.cell_counts()["CKG_X1"] == 1
    assert gated.own_sequential == plain.own_sequential + 4.0
    assert gated.own_combinational < plain.own_combinational
    gate = next(one for one in result.netlist.modules["held"].instances if one.type == "CKG_X1")
    clocks = [one.pins["CK"][0] for one in result.netlist.modules["held"].instances if one.type == "DFF_X1"]
    assert clocks.count(gate.pins["GCK"][0]) == 6


@pytest.mark.needs("opensta")
def test_path_to_the_enable_of_a_clock_gate_is_timed(library, tmp_path):
    timing = synthesize(HELD, "held", library, tmp_path, clock_gates=True, ports_fraction=0.0).timing
    stage = max((one for one in timing.stages if one.start == ("held", "e")), key=lambda one: one.period)
    assert stage.end[1].endswith("clock_gate")
    # Clock to output, an exclusive-or of six bits, setup.
    assert stage.cells >= 4


def test_clock_gates_need_a_library_that_has_one(texts, tmp_path):
    text = texts["library"]().replace("latch_posedge", "latch_negedge")
    (tmp_path / "none.lib").write_text(text, encoding="ascii")
    without = load_libraries([tmp_path / "none.lib"])[0]
    for cells in (without, None):
        with pytest.raises(InvalidValueError, match="--liberty must be a library with a clock gate"):
            synthesize(HELD, "held", cells, tmp_path, clock_gates=True)


@pytest.mark.needs("opensta")
def test_errors_of_opensta_fail_the_run(tmp_path):
    with pytest.raises(ToolError, match="OpenSTA must finish without an error, not 'Error.*no_such_command"):
        opensta.run(["no_such_command"], tmp_path, "broken")


def test_memories_of_macros_are_as_slow_as_these(library):
    macros = [SramMacro(f"ram{words}", words, 64, 100.0 + words * 64 * 2.0, access, 1.0, 2.0)
              for words, access in ((64, 1.5), (1024, 2.5))]  # fmt: skip
    model = MemoryModel(library.liberty, 26e-12, macros)
    assert model.access_ns(MemoryMacro("chessrnn_rom", 64, 1000)) == 2.5
    # Too small for a macro: an array of cells, as fast as is assumed without macros.
    assert model.access_ns(MemoryMacro("chessrnn_rom", 2, 2)) == pytest.approx(20 * 0.026)
    assert "macros" in model.timing_text()


def test_memory_model_scales_with_the_library(library):
    model = MemoryModel(library.liberty, None, [])
    wide, narrow = (model.sram.macro_area(width, 1024) for width in (64, 32))
    assert wide > narrow > 0
    read, write, _ = model.energy_pj(64, 1024, 1.0)
    assert write > read > 0
