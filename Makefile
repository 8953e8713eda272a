.PHONY: demo test suite check lint types bench clean data-fashion

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

demo: $(INSTALLED)  ## the main job on embedded data
	$(BIN)/fedcomp simulate configs/demo.toml --baseline

test: lint  ## everything that CI checks; types beside tests, whose first ones wait for processes
	$(MAKE) --no-print-directory --jobs=2 types suite

suite: $(INSTALLED)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: lint types  ## linter, format, layers, types

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)  # politely: beside tests that wait for processes with a deadline
	nice -n 10 $(BIN)/mypy

bench: $(INSTALLED)  ## all benchmarks, results under bench/
	$(BIN)/fedcomp bench codecs --json bench/codecs.json
	$(BIN)/fedcomp bench simulation --json bench/simulation.json
	$(BIN)/fedcomp bench server --json bench/server.json
	$(BIN)/fedcomp bench training --json bench/training.json
	$(BIN)/fedcomp bench serving --json bench/serving.json

data-fashion:  ## Fashion-MNIST as IDX files, from Debian's package
	@test -d /usr/share/datasets/fashion-mnist || apt-get install --yes dataset-fashion-mnist || { \
		echo "No Debian package here. Put the four Fashion-MNIST IDX files (*-ubyte or *-ubyte.gz) into data/fashion-mnist/," >&2; \
		echo "or set dataset = \"hf:zalando-datasets/fashion_mnist\" in the configuration." >&2; exit 1; }
	@echo "Fashion-MNIST is in /usr/share/datasets/fashion-mnist"

clean:
	rm -rf $(VENV) runs bench build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true  # as pip would, but on all cores
	touch $(INSTALLED)
