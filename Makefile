# Everything needs only python3 (3.11 or newer) and make; `make live` also needs go, java and mvn.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := plugins/kexport-file plugins/kexport-kafka plugins/kexport-otlp plugins/kexport-s3 \
  plugins/examples/kexport-slack plugins/examples/kexport-webhook
CODE := kexport plugins tests conftest.py
# Most tests wait more than they work: two for each of two cores.
WORKERS ?= 4
# Each has servers of its own, and waits for outages half of the time.
LIVE_WORKERS ?= 2

.PHONY: help setup demo test live chaos soak bench lint format clean

help:
	@echo "make setup  make .venv with kexport, its plugins and the tools, in pinned versions"
	@echo "make demo   start a small cluster in the process, export it, kill the exporter, check that nothing is lost"
	@echo "make test   unit and pipeline tests, Python only"
	@echo "make live   build (once) and start the real API server, etcd and Kafka, and run tests/live on them"
	@echo "make chaos  trouble everything for 20 minutes by a seeded plan, and judge every object"
	@echo "make soak   300 changes a second for an hour, Kafka away half of it, and the memory that takes"
	@echo "make bench  measure kexport and its peers (PERFORMANCE.md)"
	@echo "make lint   ruff, mypy --strict, import-linter"
	@echo "make format let ruff lay the code out"
	@echo "make clean  remove the environment and what tests left"

setup: $(VENV)/.installed

# The pinned set first (hashes checked), then this checkout, editable and without asking for anything more.
$(VENV)/.installed: pyproject.toml constraints.txt $(addsuffix /pyproject.toml,$(PLUGINS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "kexport needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  -e . $(addprefix -e ,$(PLUGINS))
	touch $@

demo: setup
	$(BIN)/kexport demo

test: setup
	$(BIN)/python -m pytest --ignore=tests/live -q -n $(WORKERS)

live: setup
	$(BIN)/python -m tests.testbed
	$(BIN)/python -m pytest tests/live -q --timeout=1800 -n $(LIVE_WORKERS) --dist=loadfile --no-loadscope-reorder

chaos: setup
	$(BIN)/python -m tests.testbed
	$(BIN)/python -m tests.chaos --minutes 20

soak: setup
	$(BIN)/python -m tests.testbed
	$(BIN)/python -m tests.chaos.soak

bench: setup
	$(BIN)/python -m tests.testbed --bench
	$(BIN)/python -m tests.bench

lint: setup
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
