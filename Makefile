# Everything is set up on first use; the only needs are make, pip and Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
LOWEST ?= .venv-lowest
BENCH  ?= .venv-bench
BENCHLC ?= .venv-bench-langchain
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TESTS  ?= tests
MODEL  ?= qwen2.5-coder-1.5b

export LITELLM_LOCAL_MODEL_COST_MAP = True
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench bench-core bench-langchain bench-sandbox bench-textgrad model test-model test-lowest fuzz clean

help:
	@echo "make setup            make .venv with everything in it; the others do so on first use"
	@echo "make demo             optimize a DSPy program with a local model, before and after on held-out examples"
	@echo "make test             lint, types and tests"
	@echo "make lint             ruff and mypy only"
	@echo "make format           let ruff rewrite the files"
	@echo "make bench            the tracer against trace-opt, and DSPy's own optimizers on the demo's program, model and split"
	@echo "make bench-core       the tracer against trace-opt only; writes benchmarks/results/core.md"
	@echo "make bench-langchain  observing a chain, beside other tracers; writes benchmarks/results/langchain.md"
	@echo "make bench-sandbox    a call of learned code in each sandbox; writes benchmarks/results/sandbox.md"
	@echo "make bench-textgrad   calls and tokens of one update, beside TextGrad's own; writes benchmarks/results/textgrad.md"
	@echo "make test-lowest      the tests that meet a dependency, with the lowest supported versions"
	@echo "make fuzz             thousands of random LangChain chains, another seed each day"
	@echo "make clean            remove what the other targets made, but not runs/"

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is %d.%d: make PYTHON=python3.11 …" % sys.version_info[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dspy,langchain,local,monty,textgrad,dev]"
	@touch $@

# Idempotent: weights that are there already are not fetched again.
model: $(READY)
	$(BIN)/trace-adapters models fetch $(MODEL)

demo: model
	@mkdir -p runs/demo
	DSPY_CACHEDIR=runs/demo/cache $(BIN)/trace-adapters optimize examples/bbh_dspy/job.py --task object_counting \
		--model local --optimizer optoprime,demos --metric-calls 120 --max-steps 5 --wall 420 --resume --study demo \
		--store sqlite:///runs/demo/study.db --export runs/demo/learned --result runs/demo/result.json

# The small model lets the tests run a real one; without network they are skipped, and say so.
test-model: $(READY)
	@$(BIN)/trace-adapters models fetch smollm2-135m || echo "no weights: tests marked local_model will be skipped"

test: test-model lint
	$(BIN)/python -m pytest $(TESTS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BENCH)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --editable . "trace-opt==0.1.3.8"
	@touch $@

# The peer has a virtual environment of its own: it is never a dependency of the project.
bench-core: $(BENCH)/.ready
	$(BENCH)/bin/python -m benchmarks.core

# The peers change LangChain for the whole process, and are never dependencies of the project.
$(BENCHLC)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(BENCHLC)
	$(BENCHLC)/bin/python -m pip install --quiet --editable ".[langchain]" openinference-instrumentation-langchain opentelemetry-sdk
	@touch $@

bench-langchain: $(BENCHLC)/.ready
	$(BENCHLC)/bin/python -m benchmarks.langchain

# Monty is measured where it is installed: pip install 'trace-adapters[monty]'; bubblewrap where the system has it.
bench-sandbox: $(READY)
	$(BIN)/python -m benchmarks.sandbox --write

# A stub model with a fixed latency: calls, tokens and time, not what is learned.
bench-textgrad: $(READY)
	$(BIN)/python -m benchmarks.textgrad

bench: bench-core model
	$(BIN)/python -m examples.bbh_dspy.baselines --data object_counting --method bootstrap --out runs/bench/bootstrap.json
	$(BIN)/python -m examples.bbh_dspy.baselines --data object_counting --method copro --out runs/bench/copro.json

$(LOWEST)/.ready: pyproject.toml .ci/lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint .ci/lowest.txt --editable ".[dspy,langchain,textgrad]" hypothesis langgraph pytest pytest-asyncio pytest-timeout
	@touch $@

# Not every test again: those of the rooms that stand on a dependency.
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider tests/adapters tests/test_cli.py tests/test_examples.py \
		tests/test_lm.py tests/test_public_api.py tests/test_study.py tests/test_study_store.py

# FUZZ_SEED=… repeats a day; a seed that finds a mistake goes into tests/adapters/langchain/test_fuzz.py.
FUZZ_SEED ?= $(shell date +%Y%m%d)
FUZZ_CHAINS ?= 1000
fuzz: $(READY)
	FUZZ_SEED=$(FUZZ_SEED) FUZZ_CHAINS=$(FUZZ_CHAINS) $(BIN)/python -m pytest -q -s tests/adapters/langchain/test_fuzz.py

clean:
	rm -rf $(VENV) $(LOWEST) $(BENCH) $(BENCHLC) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
