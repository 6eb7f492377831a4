# `make demo` and `make test` are all a newcomer needs: each makes .venv and installs into it first,
# if pyproject.toml is newer than the last install. Needs make, bash and Python 3.10 or newer.

SHELL  := /usr/bin/env bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

LOWER        := .venv-lower
LOWER_PYTHON ?= python3.10

# Two processes of tests, each with whole files; more memory than cores is what more of them would need.
SIDE_BY_SIDE := -n 2 --dist loadfile

.PHONY: demo test lint types format test-lower clean

demo: $(STAMP)
	$(BIN)/lightning-nas demo
	@echo "(The command lightning-nas is in $(BIN): source $(BIN)/activate)"

test: $(STAMP)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The oldest versions that pyproject.toml allows, on the oldest Python it allows. The one warning
# let through comes from pytorch-lightning 2.6.0 itself under torch 2.11.
test-lower: $(LOWER)/.installed
	$(LOWER)/bin/python -m pytest $(SIDE_BY_SIDE) -W "ignore:.*LeafSpec:FutureWarning"

$(STAMP): pyproject.toml
	@$(call make_venv,$(PYTHON),$(VENV),-e '.[dev]')

$(LOWER)/.installed: pyproject.toml tests/lower-bounds.txt
	@$(call make_venv,$(LOWER_PYTHON),$(LOWER),-e '.[dev]' -c tests/lower-bounds.txt)

clean:
	rm -rf $(VENV) $(LOWER) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo

# $(call make_venv,python,folder,what pip installs): pip's hundreds of lines become one per package.
define make_venv
	set -eo pipefail; \
	$(1) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 10) and \
	  "lightning-nas needs Python 3.10 or newer, but $(1) is %d.%d; say e.g. make PYTHON=python3.12" % v)'; \
	echo "Installing into $(2) (PyTorch with CUDA takes about 5 GB and a few minutes)"; \
	$(1) -m venv $(2); \
	$(2)/bin/python -m pip install --progress-bar off --disable-pip-version-check $(3) \
	  | awk '/^Collecting / { print "  " $$2; fflush() } /^Installing coll/ { print "  unpacking"; fflush() }'; \
	touch $(2)/.installed
endef
