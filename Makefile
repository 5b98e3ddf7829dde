# Everything sets itself up first: a machine needs Python 3.11 to 3.13 with venv, git and make.
PYTHON ?= python3
BIN := .venv/bin
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
# Imports of the engines take twice as long without cached bytecode.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup retrain test check format lock bench faults drills audit
.DEFAULT_GOAL := setup

setup: .venv/ready

# uv itself comes out of the lock, with its hashes, by the pip that every venv has.
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: make PYTHON=python3.11 ..." % v)'
	@echo "Setting up .venv (6.4 GB, once) ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@awk '/^[^ #]/ {keep = /^uv==/} keep' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@cp requirements.lock $@

# make retrain SOURCE=folder-or-archive VARIANTS="cnn lstm" SET="train.epochs=5" DATASET=name
retrain: setup
	@$(BIN)/weathervane retrain $(if $(SOURCE),--source "$(SOURCE)") $(if $(DATASET),--dataset "$(DATASET)") \
		$(if $(VARIANTS),--variants $(VARIANTS)) $(if $(SET),--set $(SET))

test: setup
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Format, lint, types, import contracts, unit tests: the inner loop.
check: setup
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo > /dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not drill" tests/weathervane tests/test_*.py

# Every row of tests/faults/rows.yaml, as often as make test injects it; then the table of docs/reliability.md.
faults: setup
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "fault and not drill" --faults quick
	@$(BIN)/python -m benchmarks.faults

# The same rows by the hundred, and the drills; hours.
drills: setup
	@WEATHERVANE_DRILL=full $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "fault or drill" --faults full
	@$(BIN)/python -m benchmarks.drills.kill --trials 300
	@$(BIN)/python -m benchmarks.drills.promotion
	@$(BIN)/python -m benchmarks.drills.tracking --trials 40
	@$(BIN)/python -m benchmarks.drills.tracking --delay 5 --trials 2 --epochs 3000
	@$(BIN)/python -m benchmarks.drills.operations
	@$(BIN)/python -m benchmarks.faults

# Known vulnerabilities of what the lock names; asks the package index.
audit: setup
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement requirements.lock

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: setup
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
		--upgrade --quiet --custom-compile-command "make lock" --output-file requirements.lock
	@$(BIN)/uv pip compile benchmarks/peers.in pyproject.toml --all-extras --group dev -c requirements.lock --universal \
		--python-version 3.11 --generate-hashes --no-annotate --upgrade --quiet \
		--custom-compile-command "make lock" --output-file benchmarks/peers.lock

# Everything that the README quotes as a ratio, measured here, and its table and picture; 31 to 71 minutes on two cores.
bench: setup .venv-peers/ready
	@$(BIN)/python -m benchmarks.predict
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.growth
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.drift
	@$(BIN)/python -m benchmarks.bare
	@PYTHONPATH=$(CURDIR) .venv-peers/bin/python -m benchmarks.efficiency
	@PYTHONPATH=$(CURDIR) .venv-peers/bin/python -m benchmarks.peers
	@$(BIN)/python -m benchmarks.tables

.venv-peers/ready: benchmarks/peers.lock
	@echo "Setting up .venv-peers ..."
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@VIRTUAL_ENV=$(CURDIR)/.venv-peers $(BIN)/uv pip sync --quiet --require-hashes benchmarks/peers.lock
	@touch $@
