# Every target works alone on a machine with Python >= 3.11, make and the package registries.
BIN := .venv/bin
RUNTIME := .venv/.installed-runtime
DEV := .venv/.installed-dev
SOURCES := pyproject.toml deploy/constraints.txt deploy/setup.sh
OUT ?= demo-out
# The tests' tensors are small: a second thread gains nothing, and on a busy machine it costs much.
# Two processes instead; a file's tests stay together, so that its fixtures are made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev system-packages demo test test-full lint format types imports train eval studies bench-models bench-stream bench-engine bench-delivery bench-api bench-state bench-world mutants chaos clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

$(DEV): $(SOURCES)
	@deploy/setup.sh dev
	@touch $(RUNTIME) $(DEV)

# What the development install brought is enough to run; do not install twice.
$(RUNTIME): $(SOURCES)
	@deploy/setup.sh runtime
	@touch $(RUNTIME)

setup: $(RUNTIME) ## Install what running needs into .venv (editable)

setup-dev: $(DEV) ## Install what developing and testing need too

system-packages:
	@deploy/system-packages.sh

demo: setup ## Run the main job on the built-in world and write results to OUT (demo-out)
	@echo "== running the demo into $(OUT)"
	@$(BIN)/python -m pipeline demo --out $(OUT)

test: ## Lint, types, import rules and all tests but the slow ones
	@$(MAKE) --no-print-directory -j2 setup-dev system-packages
	@$(MAKE) --no-print-directory lint types imports
	@echo "== tests"
	@$(PYTEST) -m "not slow"
	@echo "== sizes"
	@$(BIN)/python -m tests.contracts.test_size_limits

test-full: ## All tests, the slow ones included
	@$(MAKE) --no-print-directory -j2 setup-dev system-packages
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c .venv/constraints.txt -e '.[dev-full]'
	@echo "== all tests"
	@MASKSTREAM_HYPOTHESIS_PROFILE=random $(PYTEST)

lint: setup-dev ## Formatting and ruff's rules
	@echo "== formatting"
	@$(BIN)/python -m ruff format --check .
	@echo "== lint"
	@$(BIN)/python -m ruff check .

format: setup-dev ## Format the code and mend what ruff can mend
	@$(BIN)/python -m ruff format .
	@$(BIN)/python -m ruff check --fix .

types: setup-dev ## Types, strictly (pyright)
	@echo "== types"
	@$(BIN)/python -m pyright

imports: setup-dev ## Who may import whom (import-linter)
	@echo "== import rules"
	@$(BIN)/lint-imports --no-cache

train: setup-dev ## Train sam3-nano anew by its recipes into runs/ (hours; goes on where it was stopped)
	@echo "== training"
	@$(BIN)/python -m pipeline train configs/recipes/sam3-nano.yaml --out runs/sam3-nano
	@$(BIN)/python -m pipeline train configs/recipes/sam3-nano-wide.yaml --out runs/sam3-nano-wide
	@$(BIN)/python -m pipeline train configs/recipes/sam3-nano-sharp.yaml --out runs/sam3-nano-sharp
	@$(BIN)/python -m pipeline train configs/recipes/sam3-nano-fine.yaml --out runs/sam3-nano-fine
	@$(BIN)/python -m pipeline train configs/recipes/sam3-nano-deep.yaml --out runs/sam3-nano-deep
	@$(BIN)/python -m pipeline train configs/recipes/sam3-nano-outlines.yaml --out runs/sam3-nano-outlines
	@$(BIN)/python -m pipeline train configs/recipes/sam3-nano-apart.yaml --out runs/sam3-nano-apart
	@echo "== runs/sam3-nano-apart/model.safetensors is there; measure it with CHECKPOINT=... make eval"

eval: setup-dev ## Measure the shipped model, or CHECKPOINT, on held-out worlds
	@echo "== quality on held-out pictures"
	@$(BIN)/python -m pipeline eval images $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))
	@echo "== quality on held-out clips"
	@$(BIN)/python -m pipeline eval video $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

studies: OUT := runs/studies
studies: setup-dev ## Tables and plots of the shipped model, or CHECKPOINT, into OUT (runs/studies; half an hour)
	@$(BIN)/python -m pipeline eval study all --out $(OUT) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

bench-models: setup-dev ## Time our models beside transformers', same weights (ARGS="--full" for the published sizes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.models $(ARGS)

bench-stream: setup-dev ## Time whole runs on films of 640 x 360 with 2 concepts and 3 objects
	@$(BIN)/python -m tests.benchmarks.stream $(ARGS)

bench-engine: setup-dev ## Time an engine without its model, and how long it holds the interpreter's lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c .venv/constraints.txt -e '.[dev-full]'
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.engine $(ARGS)

bench-delivery: setup-dev ## Time how soon and how many records reach a consumer of a real broker
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.delivery $(ARGS)

bench-api: setup-dev ## Time what two hundred viewers of the API cost the engine
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.api $(ARGS)

bench-state: setup-dev ## Time snapshots and the way back (ARGS="--worlds 20": who keeps an identity through kill -9; 12 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.state $(ARGS)

bench-world: setup-dev ## Time how fast one core draws the synthetic worlds
	@$(BIN)/python -m tests.benchmarks.world $(ARGS)

mutants: setup-dev ## Share of 400 small faults in the middle of the code that tests find (ARGS="--seed 1"; 40 minutes)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c .venv/constraints.txt -e '.[dev-full]'
	@$(BIN)/python -m tests.benchmarks.mutants $(ARGS)

chaos: setup-dev system-packages ## What faults of cameras, brokers and workers cost, with KILLS=20, into configs/guarantees.md (25 minutes)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c .venv/constraints.txt -e '.[dev-full]'
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(ARGS)

clean: ## Remove what was built; .venv and runs/ stay
	rm -rf demo-out segment-out dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
