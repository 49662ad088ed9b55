"""Fault injection: every bit of every memory of a small design with parity is flipped, one at a time, in Icarus.

The wrapper modules of the memories are replaced by ones that plant a fault: the bit is flipped in each word that is
written to the faulty address, or in each word that is read from it where a memory is only read.  After each run of the
expected vectors the bench looks at ``parity_error`` and compares h.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from chessrnn.hdl.memory import RAM_MODULE, ROM_MODULE, WEIGHT_RAM_MODULE
from chessrnn.hdl.verilog import ports
from chessrnn.model.errors import require
from chessrnn.sim.build import VECTOR_LENGTHS, VERILOG_FILE, Build, mem_file
from chessrnn.sim.plain_testbench import LOADER, TIED
from chessrnn.sim.runner import SimulationError, environment

MODULE = "fault_bench"
# Cycles after the last beat in which an error may still be reported.
TAIL_CYCLES = 12
# Sequences of the expected vectors that are run.
SEQUENCES = 2

# The body of a wrapper: it gives itself a number, and flips the faulty bit.  WRITE and READ are statements.
FAULTY = """\
  reg [WIDTH-1:0] mem[0:DEPTH-1];
  integer id, planted;
  wire chosen = {bench}.memory == id;
  wire [WIDTH-1:0] mask = {{{{(WIDTH-1){{1'b0}}}}, 1'b1}} << {bench}.place;
  initial begin
    #1 id = {bench}.memories;
    planted = 0;
    {bench}.depths[id] = DEPTH;
    {bench}.widths[id] = WIDTH;
    $display("memory %0d %m", id);
    {bench}.memories = id + 1;
  end
{body}endmodule
"""

FILLED = """\
  initial $readmemh({MEM_DIR, "/", INIT_FILE}, mem);
  always @(posedge clk) if (en) begin
    data <= mem[addr] ^ (chosen && addr == BENCH.word ? mask : {WIDTH{1'b0}});
    if (chosen && addr == BENCH.word) BENCH.reads = BENCH.reads + 1;
  end
"""

WRITTEN = """\
  always @(posedge clk) if (write_en) begin
    mem[write_addr] <= write_data ^ (chosen && write_addr == BENCH.word ? mask : {WIDTH{1'b0}});
    if (chosen && write_addr == BENCH.word) planted = BENCH.run;
  end
  always @(posedge clk) if (read_en) begin
    read_data <= mem[read_addr];
    if (chosen && read_addr == BENCH.word && planted == BENCH.run) BENCH.reads = BENCH.reads + 1;
  end
"""

BENCH = """\
`timescale 1ns / 1ps
module {module};
  reg clk = 0, rst = 1;
  always #5 clk = !clk;
  integer memories, memory, word, place, run, reads, x_count, h_count, differences, tail;
  integer depths[0:{most}], widths[0:{most}];
  reg [{x_bits}:0] x_words[0:{x_last}];
  reg [{h_bits}:0] h_words[0:{h_last}];
  wire x_ready, h_valid, h_last, parity_error;
  wire [{h_top}:0] h_data;
  wire x_valid = !rst && x_count <= {x_last};
  wire [{x_bits}:0] x_word = x_words[x_count];
  {top} dut (
{connections}
  );
  always @(posedge clk) if (!rst) begin
    if (x_valid && x_ready) x_count <= x_count + 1;
    if (h_valid && h_count <= {h_last}) begin
      if ({{h_last, h_data}} !== h_words[h_count]) differences = differences + 1;
      h_count <= h_count + 1;
    end
    if (h_count > {h_last}) tail <= tail + 1;
  end
  task simulate;
    begin
      run = run + 1;
      reads = 0;
      differences = 0;
      rst = 1;
      repeat (2) @(negedge clk);
      x_count = 0;
      h_count = 0;
      tail = 0;
      rst = 0;
      while (tail < {tail}) @(negedge clk);
      $display("run %0d %0d %0d %0d %0d %b", memory, word, place, reads, differences, parity_error);
    end
  endtask
  initial begin
    $readmemh("{x_file}", x_words);
    $readmemh("{h_file}", h_words);
    memories = 0;
    run = 0;
    memory = -1;
    word = 0;
    place = 0;
    @(negedge clk);
    simulate;
    for (memory = 0; memory < memories; memory = memory + 1)
      for (word = 0; word < depths[memory]; word = word + 1)
        for (place = 0; place < widths[memory]; place = place + 1) simulate;
    $finish;
  end
endmodule
"""


@dataclass(frozen=True)
class Fault:
    """One flipped bit, and what followed.

    Attributes
    ----------
    memory : str
        Hierarchical name of the memory; empty in the run without a fault.
    word, place : int
        Address of the word, and the bit.
    reads : int
        How often the faulty word was read.
    differences : int
        Number of beats of h that differ from the expected ones.
    reported : bool
        Whether ``parity_error`` was 1 at the end.
    """

    memory: str
    word: int
    place: int
    reads: int
    differences: int
    reported: bool


def faulty_memories(verilog: str) -> str:
    """The Verilog of a design with memories that plant the bench's fault."""
    for module, body in ((ROM_MODULE, FILLED), (WEIGHT_RAM_MODULE, FILLED), (RAM_MODULE, WRITTEN)):
        pattern = re.compile(rf"(^module \S*{module} #\(.*?\n\);\n).*?^endmodule\n", re.MULTILINE | re.DOTALL)
        text = FAULTY.format(bench=MODULE, body=body.replace("BENCH", MODULE))
        verilog = pattern.sub(lambda found, text=text: found[1] + text, verilog)
    return verilog


def bench(build: Build, x_beats: int, h_beats: int) -> str:
    """Verilog of the bench of a build with that many beats in its vector files."""
    config, prefix = build.config, build.prefix
    k, q = config.block_size, config.quantization
    own = {"x_data": f"x_word[{k * q.x.width - 1}:0]", "x_last": f"x_word[{k * q.x.width}]", "h_ready": "1'b1"}
    shown = ("x_ready", "h_valid", "h_data", "h_last", "parity_error")
    rows = []
    for port in ports(config):
        name = port["name"]
        value = f"{port['width']}'d0" if name in LOADER else own.get(name) or TIED.get(name, name)
        rows.append(f"    .{name}({'' if port['direction'] == 'output' and name not in shown else value})")
    return BENCH.format(
        module=MODULE, top=build.top, most=4095, x_bits=k * q.x.width, h_bits=k * q.h.width, h_top=k * q.h.width - 1,
        x_last=x_beats - 1, h_last=h_beats - 1, connections=",\n".join(rows), tail=TAIL_CYCLES,
        x_file=mem_file(prefix, "vectors_x"), h_file=mem_file(prefix, "vectors_h"),
    )  # fmt: skip


def inject(build: Build, scratch: Path) -> list[Fault]:
    """Run the expected vectors once without a fault, then once for every bit of every memory.

    Parameters
    ----------
    build : Build
        Build folder of a design with ``architecture.parity = word``.
    scratch : Path
        Folder for the bench.

    Returns
    -------
    list of Fault
        The run without a fault first.

    Raises
    ------
    SimulationError
        Icarus fails.
    """
    parity = build.config.architecture.parity
    require(parity == "word", "architecture.parity", "word, as faults are reported by it", parity)
    contexts = build.config.architecture.contexts
    require(contexts == 1, "architecture.contexts", "1 for fault injection", contexts)
    source, text, program = scratch / "faulty.v", scratch / "bench.v", scratch / "faults.vvp"
    source.write_text(faulty_memories((build.path / VERILOG_FILE).read_text(encoding="utf-8")), encoding="utf-8")
    # Two sequences are enough: they carry a state over, and begin again.
    steps = sum(VECTOR_LENGTHS[:SEQUENCES])
    beats = [steps * build.config.num_input_blocks, steps * build.config.num_stream_blocks]
    text.write_text(bench(build, *beats), encoding="utf-8")
    with environment("icarus"):
        for command in (["iverilog", "-g2005", "-s", MODULE, "-o", program, text, source], ["vvp", program]):
            result = subprocess.run(command, cwd=build.path, capture_output=True, text=True, check=False)
            if result.returncode:
                log = scratch / "faults.log"
                log.write_text(result.stdout + result.stderr, encoding="utf-8")
                raise SimulationError("fault injection in Icarus failed", log)
    names = dict(re.findall(r"^memory (\d+) \S+?\.dut\.(\S+)$", result.stdout, re.MULTILINE))
    faults = []
    for line in re.findall(r"^run (.*)$", result.stdout, re.MULTILINE):
        memory, *numbers, reported = line.split()
        word, place, reads, differences = map(int, numbers)
        faults.append(Fault(names.get(memory, ""), word, place, reads, differences, reported == "1"))
    return faults
