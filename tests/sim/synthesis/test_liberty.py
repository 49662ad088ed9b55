"""Liberty files: functions, kinds of cells, what a library must have."""

import gzip
import itertools

import pytest

from chessrnn.model.errors import InvalidFileError, InvalidValueError
from chessrnn.sim.synthesis.cell_models import cell_models
from chessrnn.sim.synthesis.liberty import Expression, Liberty
from chessrnn.sim.synthesis.library import load_libraries


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("A", lambda a, b, c: a),
        ("!A", lambda a, b, c: 1 - a),
        ("A'", lambda a, b, c: 1 - a),
        ("A B + C", lambda a, b, c: a & b | c),
        ("A * B | C'", lambda a, b, c: a & b | (1 - c)),
        ("!(A & (B | C))", lambda a, b, c: 1 - (a & (b | c))),
        ("(A ^ B)' ^ C", lambda a, b, c: (1 - (a ^ b)) ^ c),
        ("A ^ B & C", lambda a, b, c: a ^ (b & c)),
        ("A | B ^ C", lambda a, b, c: a | (b ^ c)),
        ("(A)(B)", lambda a, b, c: a & b),
        ("!!A + 0", lambda a, b, c: a),
        ("1", lambda a, b, c: 1),
    ],
)
def test_expression(text, function):
    expression = Expression(text, "ABC")
    patterns = list(itertools.product((0, 1), repeat=3))
    # One at a time, and all patterns as bits of one number.
    assert [expression.value(dict(zip("ABC", bits, strict=True))) for bits in patterns] == [
        function(*b) for b in patterns
    ]
    vectors = {name: sum(bits[i] << n for n, bits in enumerate(patterns)) for i, name in enumerate("ABC")}
    assert expression.value(vectors, 255) == sum(function(*bits) << n for n, bits in enumerate(patterns))


@pytest.mark.parametrize("text", ["A &", "(A", "A B)", "D", "A + + B", "", "!"])
def test_malformed_expression(text):
    with pytest.raises(InvalidFileError, match="liberty function must be an expression"):
        Expression(text, "ABC")


def test_cells_are_found_by_function(library_file):
    liberty = Liberty(library_file)
    assert (liberty.nand2.name, liberty.inverter.name, liberty.flip_flop.name) == ("NAND2_X1", "INV_X1", "DFF_X1")
    assert [cell.name for cell in liberty.buffers] == ["BUF_X1", "BUF_X4"]
    cell, total, carry = liberty.full_adder
    assert (cell.name, total, carry) == ("FA_X1", "S", "CO")
    assert (liberty.tie_low.name, liberty.tie_high.name) == ("TIE0", "TIE1")
    assert liberty.cells["LATCH_X1"].kind == "latch"
    assert liberty.cells["CKG_X1"].kind == "clock gate"
    assert liberty.clock_gate.gate_pins == {"enable": "E", "clock": "CK", "output": "GCK"}
    assert liberty.nand2.pins["A"].capacitance == pytest.approx(2e-15)
    assert liberty.drive(liberty.buffers[1]) == pytest.approx(4)


def test_compressed_file_is_read_alike(library_file, tmp_path):
    packed = tmp_path / "linear.lib.gz"
    packed.write_bytes(gzip.compress(library_file.read_bytes()))
    assert Liberty(packed).cells.keys() == Liberty(library_file).cells.keys()
    assert load_libraries([packed])[0].name == "linear"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda texts: texts["library"](without=("NAND2_X1", "NAND2_X4")), "must have a two-input NAND"),
        (lambda texts: texts["library"](flip_flops=()), "must have a D flip-flop"),
        (lambda texts: texts["library"](without=("INV_X1", "INV_X4")), "must have an inverter"),
        (lambda texts: texts["library"](without=("BUF_X1", "BUF_X4")), "must have a buffer"),
        (lambda texts: texts["library"]()[:-3], "must hold one library group that is closed"),
        (lambda texts: texts["library"]() + "}", "must close no more groups"),
        (lambda texts: "module x; endmodule", "must be a Liberty file"),
        (lambda texts: "library (empty) { }", "must be a standard-cell library"),
    ],
)
def test_unusable_library(texts, tmp_path, change, message):
    path = tmp_path / "bad.lib"
    path.write_text(change(texts), encoding="ascii")
    with pytest.raises(InvalidFileError, match=message):
        load_libraries([path])


def test_damaged_or_missing_file(tmp_path):
    path = tmp_path / "bad.lib.gz"
    path.write_bytes(b"\x1f\x8bnot really")
    for name in (path, tmp_path / "none.lib"):
        with pytest.raises(InvalidFileError, match="must be a readable Liberty file: "):
            load_libraries([name])


SRAM = """library (ram) { capacitive_load_unit (1, pf); cell (RAM_64x64) { area : 1000;
  memory () { type : ram; address_width : 6; word_width : 64; }
  bus (A_DOUT) { timing () { cell_rise (scalar) { values ("1.5"); } cell_fall (scalar) { values ("1.6"); } } } } }"""


def test_macros_belong_to_the_library_beside_them(library_file, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.lib").write_bytes(library_file.read_bytes())
    macro = tmp_path / "two" / "ram.lib"
    macro.write_text(SRAM, encoding="ascii")
    paths = [tmp_path / "one" / "one.lib", tmp_path / "two" / "two.lib", macro]
    one, two = load_libraries(paths)
    assert (one.macros, [m.name for m in two.macros]) == ((), ["RAM_64x64"])
    assert (two.macros[0].words, two.macros[0].width, two.macros[0].access_ns) == (64, 64, 1.6)
    stray = tmp_path / "ram.lib"
    stray.write_text(SRAM, encoding="ascii")
    with pytest.raises(InvalidFileError, match="must be in the folder of its standard-cell library"):
        load_libraries([*paths, stray])
    with pytest.raises(InvalidValueError, match="liberty must be at least one standard-cell library"):
        load_libraries([stray])


def test_models_of_cells(texts, tmp_path):
    path = tmp_path / "reset.lib"
    path.write_text(texts["library"](flip_flops=(texts["flip_flop"](reset=True),)), encoding="ascii")
    text = cell_models(Liberty(path), ["DFF_X1", "NAND2_X1", "FA_X1"])
    assert "assign Y = (~(A & B));" in text
    assert "assign CO = ((A & B) | (CI & (A | B)));" in text
    assert "always @(posedge clock_ or posedge clear_) if (clear_) IQ <= 1'b0; else IQ <= next_;" in text
    with pytest.raises(InvalidFileError, match="must be a gate or a flip-flop"):
        cell_models(Liberty(path), ["LATCH_X1"])
