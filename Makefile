# make demo    try it out: makes .venv, installs, runs the demo (arguments: DEMO_ARGS="PATH ...")
# make test    makes .venv, installs the test extra, runs the tests (arguments: PYTEST_ARGS="-k ...")
# make lint    ruff's lint and format checks, mypy, pyright
# make bench   side-by-side measurements (arguments: BENCH_ARGS="...")
# make docs    builds the documentation into build/docs; a warning fails
# make clean   removes all that these made
#
# PYTHON=/path/to/python chooses the interpreter, VENV=directory the virtual environment.

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for candidate in python3 python python3.14 python3.13 python3.12 python3.11; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo "$$candidate" && break; done)
endif

PIP_INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint check-lint check-format check-mypy check-pyright bench docs clean FORCE

help:
	@sed -n '/^# make /s/^# //p' Makefile

demo: $(VENV)/installed
	$(VENV_PYTHON) -m tokengate_executor demo $(DEMO_ARGS)

test: $(VENV)/installed-test
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS)

lint: check-lint check-format check-mypy check-pyright

check-lint: $(VENV)/installed-lint
	$(VENV_PYTHON) -m ruff check .

check-format: $(VENV)/installed-lint
	$(VENV_PYTHON) -m ruff format --check .

check-mypy: $(VENV)/installed-lint
	$(VENV_PYTHON) -m mypy

check-pyright: $(VENV)/installed-lint
	$(VENV_PYTHON) -m pyright --pythonpath $(VENV_PYTHON)

bench: $(VENV)/installed-bench
	$(VENV_PYTHON) bench/side_by_side.py $(BENCH_ARGS)

docs: $(VENV)/installed-docs
	$(VENV_PYTHON) bench/performance_page.py --check
	$(VENV_PYTHON) -m sphinx -q -W --keep-going -b html docs build/docs

# The rule always runs, but only writes when the virtual environment is missing or was made by another
# interpreter; the installations below then run again, and otherwise do not.
$(VENV)/interpreter: FORCE
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer was found;" \
		"name one with: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys' || { echo "error: PYTHON=$(PYTHON) does not run" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: Python 3.11 or newer is needed, and $(PYTHON) is" \
		"$$("$(PYTHON)" -c 'import platform; print(platform.python_version())');" \
		"name a newer one with: make PYTHON=/path/to/python" >&2; exit 1; }
	@wanted=$$("$(PYTHON)" -c 'import sys; print(sys.base_prefix, sys.version.replace("\n", " "))'); \
	test -x $(VENV_PYTHON) && test "$$(cat $@ 2>/dev/null)" = "$$wanted" || { \
		echo "making $(VENV) for Python $${wanted#* }"; \
		"$(PYTHON)" -m venv --clear $(VENV) && echo "$$wanted" > $@; }

$(VENV)/installed: $(VENV)/interpreter setup.cfg pyproject.toml
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/installed-%: $(VENV)/interpreter setup.cfg pyproject.toml
	$(PIP_INSTALL) --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
