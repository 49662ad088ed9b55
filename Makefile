# Short names for the commands in scripts/.  Every target makes .venv when it is missing and installs only what
# it needs; the stamps under .venv/ remember which extras are in.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Steps of set-up write into one .venv, and what is missing is said before the first of them.
.NOTPARALLEL:

CONFIG  ?= char128
SET     ?=
SIM     ?= verilator
LIBERTY ?=
UNIT    ?=
N       ?= 50
SEED    ?= 1
ARGS    ?=
WORKERS ?= 2
SCHEDULER ?=
BOARD   ?= ulx3s_85f
PORT    ?=
MODEL   ?=
AUDIO   ?=
TASK    ?= speech

# Packages are compiled when they are imported, which takes a fraction of compiling all of them while they are installed;
# where the environment forbids it, every process would compile them again.
unexport PYTHONDONTWRITEBYTECODE

# Left empty, the first of these that is recent enough makes .venv.
PYTHON  ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.11 python3.12 python3.13)
RUN     := .venv/bin/python
find_python = for python in $(PYTHONS); do \
        if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$python"; break; fi; \
    done; \
    if [ -z "$${found:-}" ]; then echo 'make: error: Python 3.11 or newer must be installed (or named by PYTHON=...)' >&2; exit 2; fi
# What reads MODEL: files of torch.save need torch, safetensors nothing.
READER   = $(if $(filter %.onnx %.keras %.h5 %.hdf5 %.tflite,$(MODEL)),.venv/.import,$(if $(filter %.safetensors %.npz %.pt2,$(MODEL)),.venv/.base,.venv/.train))
TEST_EXTRAS = sim train import hybrid synth plot dev
SLOW_EXTRAS = place cluster tensorboard docs browser soc
LINT_EXTRAS = cluster types
# Workers share the cores: threads of NumPy and PyTorch beside them would only wait for each other.
PYTEST   = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal
RUFF     = $(RUN) -m ruff check . && $(RUN) -m ruff format --check .
# Who runs the jobs of a long command, where that is asked for.
JOBS     = $(if $(SCHEDULER),--scheduler $(SCHEDULER),$(if $(filter file,$(origin WORKERS)),,--workers $(WORKERS)))
# What watches training, where that is asked for.
WATCH    = $(if $(findstring --live,$(ARGS)),.venv/.plot) $(if $(findstring --tensorboard,$(ARGS)),.venv/.tensorboard)
CLUSTER  = $(if $(SCHEDULER),.venv/.cluster)
OPTIONS  = --config $(CONFIG) $(foreach setting,$(SET),--set '$(setting)') $(ARGS)

# Every target that `make help` lists.
.PHONY: $(shell sed -nE 's/^([a-z-]+):[^\#]*\#\# .*/\1/p' Makefile)

help: ## this list
	@echo 'usage: make TARGET [CONFIG=preset|file] [SET="section.field=value ..."] [ARGS="more options"]'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	    || sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1  \2/p' $(MAKEFILE_LIST)

verilog: .venv/.base ## emit build/<name>/: Verilog, weight files, expected vectors, report (CONFIG, SET)
	@$(RUN) -m chessrnn verilog $(OPTIONS)

sim: $(if $(filter icarus,$(SIM)),programs-of-icarus,programs-of-verilator) .venv/.sim ## feed text through the emitted Verilog, compare every h (SIM=verilator or icarus)
	@$(RUN) -m chessrnn sim --sim $(SIM) $(OPTIONS)

report: .venv/.base ## one page that shows the design, build/<name>/report.html, with what was simulated and built (CONFIG, SET)
	@$(RUN) -m chessrnn report $(OPTIONS)

check: programs-of-verilator .venv/.sim .venv/.synth ## lint the emitted Verilog with Verilator and Yosys (CONFIG, SET)
	@$(RUN) -m chessrnn check $(OPTIONS)

prove: .venv/.synth ## prove properties of the streams for every input (ARGS="--only framing")
	@$(RUN) -m chessrnn prove $(foreach setting,$(SET),--set '$(setting)') $(ARGS)

fuzz: programs-of-icarus programs-of-verilator .venv/.sim $(CLUSTER) ## N random designs against the reference, 0 LSB and predicted cycles (N, SEED, WORKERS or SCHEDULER)
	@$(RUN) -m chessrnn fuzz --count $(N) --seed $(SEED) $(JOBS) $(ARGS)

explore: .venv/.plot $(CLUSTER) ## Pareto front of latency and area, or the cheapest tile (ARGS="--latency-us 1.71")
	@$(RUN) -m chessrnn explore $(if $(filter file,$(origin CONFIG)),,--config $(CONFIG)) $(foreach setting,$(SET),--set '$(setting)') $(JOBS) $(ARGS)

pearea: .venv/.synth ## gate equivalents of one processing element, every engine (ARGS="--liberty FILE")
	@$(RUN) -m chessrnn pearea $(ARGS)

sidebyside: .venv/.synth ## the engines beside a datapath by FFT, per multiply-accumulate (ARGS="--liberty FILE --block-size 8")
	@$(RUN) tests/baselines/side_by_side.py $(ARGS)

synth: .venv/.synth $(if $(filter --gate-level --power,$(ARGS)),.venv/.sim) ## area, timing and power (CONFIG, SET, LIBERTY="cells.lib.gz SRAM.lib.gz ...", UNIT=row)
	@$(RUN) -m chessrnn synth $(if $(LIBERTY),--liberty $(LIBERTY)) $(if $(UNIT),--unit $(UNIT)) $(OPTIONS)

silicon: .venv/.synth $(CLUSTER) ## every design in every library beside the paper's (LIBERTY="a/cells.lib.gz b/cells.lib.gz b/SRAM.lib.gz")
	@$(RUN) -m chessrnn silicon --liberty $(LIBERTY) $(JOBS) $(ARGS)

place: programs-of-placement .venv/.place ## place and route a block, its wires and what they cost (CONFIG, SET, UNIT=dot_product, ARGS="--compare cells.lib.gz")
	@$(RUN) -m chessrnn place $(if $(filter file,$(origin CONFIG)),,--config $(CONFIG)) $(if $(UNIT),--unit $(UNIT)) $(if $(LIBERTY),--liberty $(LIBERTY)) $(foreach setting,$(SET),--set '$(setting)') $(ARGS)

bless: .venv/.synth ## make the area and depth of today's small designs the baseline of tests
	@$(RUN) -m chessrnn bless

inspect: $(READER) ## layers, sizes and bytes of a model file (MODEL=file.pt, .safetensors, .onnx or .keras)
	@$(RUN) -m chessrnn inspect '$(MODEL)' $(ARGS)

convert: $(READER) $(if $(findstring --sim,$(ARGS)),.venv/.sim) $(if $(findstring --retrain,$(ARGS)),.venv/.train) ## weight image of a model file's layers, retrained or not (MODEL=file ARGS="--k 8 --calibrate x.npy --retrain 2000 --sim verilator")
	@$(RUN) -m chessrnn convert '$(MODEL)' $(foreach setting,$(SET),--set '$(setting)') $(ARGS)

predict: $(if $(findstring --rtl,$(ARGS)),.venv/.sim,.venv/.base) $(if $(findstring --plot,$(ARGS)),.venv/.plot) ## your own inputs through the integer model or the Verilog (CONFIG=file ARGS="--weights w.safetensors --inputs x.npy --output y.npy")
	@$(RUN) -m chessrnn predict $(CONFIG) $(foreach setting,$(SET),--set '$(setting)') $(ARGS)

evaluate-model: .venv/.hybrid $(if $(findstring --rtl,$(ARGS)),.venv/.sim) $(if $(findstring --plot,$(ARGS)),.venv/.plot) ## what a whole ONNX model loses by its recurrent layers' integers (MODEL=file.onnx ARGS="--weights w.safetensors --inputs x.npy")
	@$(RUN) -m chessrnn evaluate-model '$(MODEL)' $(foreach setting,$(SET),--set '$(setting)') $(ARGS)

showcase: $(if $(filter speech noise,$(TASK)),.venv/.showcase-$(TASK),.venv/.base) ## compress a public model, train and measure it: a detector of speech in 20 minutes, or TASK=noise, a suppressor of noise (AUDIO=folder of WAV files, ARGS=--quick)
	@$(RUN) -m chessrnn showcase --task '$(TASK)' $(if $(AUDIO),--audio '$(AUDIO)') $(ARGS)

train: .venv/.train $(WATCH) ## compress: dense, circulant, approximated, few-bit; evaluate the integer model
	@$(RUN) -m chessrnn train $(OPTIONS)

accuracy: .venv/.train .venv/.plot $(CLUSTER) $(WATCH) ## what compression costs (TEXT=file FSDD=folder CMUDICT=file ARGS=--quick)
	@$(RUN) -m chessrnn accuracy $(if $(TEXT),--text '$(TEXT)') $(if $(FSDD),--fsdd '$(FSDD)') $(if $(CMUDICT),--cmudict '$(CMUDICT)') $(JOBS) $(ARGS)

fpga: .venv/.fpga ## bitstream for a board, its utilisation and clock (BOARD=ulx3s_85f, icebreaker, tang_nano_9k, ... or my_board.toml)
	@$(RUN) -m chessrnn fpga --board $(BOARD) $(if $(filter file,$(origin CONFIG)),,--config $(CONFIG)) $(foreach setting,$(SET),--set '$(setting)') $(ARGS)

xilinx: .venv/.fpga ## LUT, FF, BRAM, DSP of 7-series and UltraScale+ parts (CONFIG, SET)
	@$(RUN) -m chessrnn xilinx $(OPTIONS)

host: .venv/.fpga .venv/.sim ## write text with the device at PORT, or with a simulated one
	@$(RUN) -m chessrnn host $(if $(PORT),--port $(PORT),--simulate) $(OPTIONS)

# Without the type checker, which takes most of a minute of one core.
test: programs-of-quick-tests .venv/.tests ## linter, formatter, every test but the slow ones
	@$(RUFF)
	@$(PYTEST) -m 'not slow' $(ARGS)

test-slow: programs-of-tests .venv/.slow-tests ## the tests that `make test` leaves out: retraining, netlists, long simulations
	@$(PYTEST) -m slow $(ARGS)

mutants: .venv/.tests ## plant errors in a copy of the sources and see whether tests notice: an hour and more (ARGS="--only hdl/row --sample 20")
	@$(RUN) tests/mutants/run.py $(ARGS)

test-all: test test-slow ## every test

docs: .venv/.docs ## documentation site in build/site/, warnings as errors; builds and opens without a network
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet $(ARGS)
	@echo 'written to build/site/index.html'

lint: .venv/.lint ## linter, formatter, type checker, nothing changed
	@$(RUFF)
	@$(RUN) scripts/set_up.py types
	@$(RUN) -m pyright

format: .venv/.dev ## let the formatter rewrite the tree
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean: ## remove everything generated but .venv
	rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv

# -- set-up ----------------------------------------------------------------------------------------------------

.venv/.python: # made once: a newer Makefile is no reason to install everything again
	@$(find_python); \
	if ! "$$found" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	    echo "make: error: $$found must have the modules venv and ensurepip (Debian: apt-get install python3-venv)" >&2; exit 2; \
	fi; \
	rm -rf .venv; "$$found" -m venv .venv; $(RUN) scripts/set_up.py pip; touch $@

.venv/.base: .venv/.python pyproject.toml requirements.lock
	@$(RUN) scripts/set_up.py packages; touch $@

.venv/.sim .venv/.train .venv/.import .venv/.hybrid .venv/.synth .venv/.place .venv/.fpga .venv/.plot .venv/.cluster .venv/.tensorboard .venv/.docs .venv/.dev: .venv/.%: .venv/.base
	@$(RUN) scripts/set_up.py packages $*; touch $@

.venv/.showcase-speech .venv/.showcase-noise: .venv/.showcase-%: .venv/.train .venv/.hybrid .venv/.plot # the models' own requirements are gigabytes that nobody runs
	@$(RUN) scripts/set_up.py alone showcase-$*; touch $@

.venv/.tests: .venv/.base # one installation of all is quicker than one of each
	@$(RUN) scripts/set_up.py packages $(TEST_EXTRAS); touch $@ $(TEST_EXTRAS:%=.venv/.%)

.venv/.slow-tests: .venv/.tests
	@$(RUN) scripts/set_up.py packages $(SLOW_EXTRAS); touch $@ $(SLOW_EXTRAS:%=.venv/.%)
	@$(RUN) scripts/set_up.py alone showcase-noise

.venv/.lint: .venv/.tests # pyright looks for what is imported
	@$(RUN) scripts/set_up.py packages $(LINT_EXTRAS); touch $@ $(LINT_EXTRAS:%=.venv/.%)

# Before anything slow: tests run without what cannot be installed, a simulation does not.
.PHONY: programs-of-tests programs-of-quick-tests programs-of-verilator programs-of-icarus programs-of-placement
programs-of-tests:
	@$(find_python); "$$found" scripts/set_up.py programs --install --optional

programs-of-quick-tests: # without the browser, the largest of them, which only slow tests need
	@$(find_python); "$$found" scripts/set_up.py programs --install --optional icarus verilator opensta

programs-of-verilator programs-of-icarus: programs-of-%:
	@$(find_python); "$$found" scripts/set_up.py programs $*

programs-of-placement:
	@$(find_python); "$$found" scripts/set_up.py programs qrouter opensta
