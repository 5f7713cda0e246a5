# Everything that the README promises: each target sets up what it needs.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: demo test test-side-by-side up bench bench-deps test-firecracker lint lock clean

demo: $(READY)
	$(BIN)/firelet demo

up: $(READY)
	$(BIN)/firelet up

test: $(READY) lint
	$(BIN)/pytest -q

# The same in two thirds of the time, by two processes.
test-side-by-side: $(READY) lint
	$(BIN)/python tests/side_by_side.py -q

# With a real Firecracker, which FIRELET_FIRECRACKER names; none is fetched. docs/firecracker.md
test-firecracker: $(READY)
	PYTHONPATH=src:tests $(BIN)/python tests/firecracker/run.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy bench
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m bench
	$(BIN)/python -m bench.streaming
	$(BIN)/python -m bench.gateway
	$(BIN)/python -m bench.dev
	$(BIN)/python -m bench.microvm
	$(BIN)/python -m bench.shared_directory

# AWS's runtime interface emulator, for the comparison; its pins conflict with ours, hence apart.
bench-deps: $(READY)
	$(BIN)/python -m bench --install-emulator

# The lock holds versions and hashes for all supported Pythons, and no download addresses.
lock: $(READY)
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q \
		--python-version 3.11 --all-extras pyproject.toml -o requirements.lock

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "firelet needs Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
