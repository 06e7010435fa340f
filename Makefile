# `make demo` and `make test` do all their own set-up in .venv; nothing else is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help install demo test lint clean

help:
	@echo "make install   set up .venv, which the others do too"
	@echo "make demo      upscale, train, benchmark and report on sample images (a minute or two)"
	@echo "make test      the test suite"
	@echo "make lint      ruff and mypy"
	@echo "make clean     remove what the demo made"

install: $(VENV)/.installed

$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: install
	$(BIN)/mvmsr demo

# Several processes of one thread each: most tests are too small for two threads.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf demo_output
