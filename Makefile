# Two commands that need only Python (3.11 or newer), make and pip:
#   make find   finds a double-win ticket in the packaged robust backbone, on the bundled digits
#   make test   lint, types and tests
# And two more:
#   make docs   writes docs/api.md from the docstrings, and looks for links that lead nowhere
#   make faults reads 20,000 damaged folders, pulls 500 times from a failing Hub, opens what 5,000
#               strangers give, kills 200 processes on stores of units, and counts what happens
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: find test docs faults lint install clean

find: $(VENV)/.installed
	$(BIN)/lottery-hub find --pretrain adv --dataset digits

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

docs: $(VENV)/.installed-dev
	$(BIN)/python scripts/make_docs.py

faults: $(VENV)/.installed-dev
	$(BIN)/python tests/faults/campaign.py --cases 20000 --seed 1
	$(BIN)/python tests/faults/hub_campaign.py --pulls 500 --races 50 --seed 1
	$(BIN)/python tests/faults/strangers.py --cases 5000 --seed 1
	$(BIN)/python tests/faults/commands.py --seed 0
	$(BIN)/python tests/faults/inputs.py --seed 0
	$(BIN)/python -m tests.faults.store_campaign --kills 200 --seed 1

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
