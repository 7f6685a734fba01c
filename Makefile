# Every target sets up what it needs, inside .venv (or .venv-vllm) alone, and only once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-vllm check docs wheel clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " \
		+ sys.version.split()[0] + "; name another one: make setup PYTHON=python3.12")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[all,dev,docs]'
	@touch $@

quickstart: $(STAMP) ## train a planner, compare it with its baselines, show a dialogue
	$(BIN)/dialog-gym quickstart

test: $(STAMP) ## run the tests, a file of them at a time in each of two processes
	$(BIN)/pytest -n 2 --dist loadfile

test-vllm: $(VLLM_STAMP) ## run vLLM on this machine's CPU, in process and as a server, and test it
	$(VLLM)/bin/pytest tests/vllm

# In two steps: torch with what it depends on, then the rest exactly as listed (constraints-vllm.txt says why).
$(VLLM_STAMP): pyproject.toml constraints-vllm.txt
	@$(VLLM)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VLLM)
	$(VLLM)/bin/python -m pip install --no-compile -c constraints-vllm.txt torch setuptools
	$(VLLM)/bin/python -m pip install --no-compile --no-deps -r constraints-vllm.txt
	$(VLLM)/bin/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

check: $(STAMP) ## lint, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP) ## build the site of documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

wheel: $(STAMP) ## build dist/*.whl
	rm -rf build  # setuptools would pack what lies there from before
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove what was built; .venv, .venv-vllm and runs/ stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
