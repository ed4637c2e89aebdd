# What a newcomer types. Needs make, git and Python 3.11 or newer; all else is put into the folder .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check
# The first that is new enough makes .venv; name another one with `make PYTHONS=/path/to/python …`.
PYTHONS := python3.13 python3.12 python3.11 python3 python
ARGS :=

.PHONY: help demo test chaos soak fuzz bench site check lock clean

help: ## Show this text.
	@echo "make demo  [ARGS='--kill']         run the main job here, against a vendor that goes wrong; needs nothing running"
	@echo "make test  [ARGS='tests/unit']     run the tests, all of them if none are named; needs nothing running"
	@echo "make chaos [ARGS='--seed 1']       kill, freeze, wipe and cut off everything at random for a minute, and judge"
	@echo "make soak  [ARGS='--no-lookup']    20,000 orders, a worker killed every 2 s, Redis wiped every 30 s, and judge"
	@echo "make fuzz                          read 100,000 made-up answers and as many orders"
	@echo "make bench [ARGS=--quick]          measure Orderrelay and its peers side by side; writes docs/performance.md"
	@echo "make site                          build all documents as a site in .site/site; a link that leads nowhere fails it"
	@echo "make check                         lint, format, types (mypy and pyright, strict), import contracts"
	@echo "make lock                          bring uv.lock up to date with pyproject.toml"
	@echo "make clean                         remove .venv and everything else that was made here"

demo: $(VENV)/.demo-installed ## Run the main job on this machine.
	@$(VENV)/bin/orderrelay demo $(ARGS)

test: $(VENV)/.dev-installed ## Run the tests.
	@$(PYTHON) -m pytest $(ARGS)

chaos: $(VENV)/.dev-installed ## Run the product under chaos; `ARGS=--help` tells what can be chosen.
	@$(PYTHON) -m tests.chaos.run $(ARGS)

soak: $(VENV)/.dev-installed ## Many orders while workers are killed and Redis is wiped; what ARGS says comes last and so wins.
	@$(PYTHON) -m tests.chaos.run --orders 20000 --faults 0.1 --kill-every 2 --wipe-every 30 --workers 6 $(ARGS)

fuzz: $(VENV)/.dev-installed ## Read 100,000 made-up answers and orders; a failure tells its seed.
	@ORDERRELAY_FUZZ_COUNT=100000 $(PYTHON) -m pytest tests/fuzz $(ARGS)

bench: $(VENV)/.dev-installed ## Measure Orderrelay and its peers on the same job; `ARGS=--help` tells what can be chosen.
	@$(PYTHON) -m tests.bench.compare $(ARGS)

site: $(VENV)/.site-installed ## Build the documents as a site.
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) .ci/site.py

check: $(VENV)/.dev-installed ## Everything that can be checked without running.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy producers shared workers tests docs/examples
	$(VENV)/bin/pyright --pythonpath $(PYTHON)
	$(VENV)/bin/lint-imports

lock: $(VENV)/.made ## Bring uv.lock up to date.
	@$(PIP) install --quiet uv
	@$(VENV)/bin/uv lock

clean: ## Remove what was made here.
	rm -rf $(VENV) .bench .site dist build .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find producers shared workers tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp rather than bin/python: a venv whose making was interrupted is made again.
$(VENV)/.made:
	@older=; bare=; \
	for python in $(PYTHONS); do \
	    command -v "$$python" >/dev/null 2>&1 || continue; \
	    version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	        older="$$older $$python ($$version)"; continue; \
	    fi; \
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        bare=$$version; continue; \
	    fi; \
	    echo "Making $(VENV) with Python $$version …" >&2; \
	    "$$python" -m venv --clear $(VENV) || exit 1; \
	    touch $@; exit 0; \
	done; \
	if [ -n "$$bare" ]; then \
	    echo "Python $$bare is here, but it cannot make virtual environments. On Debian and Ubuntu:" >&2; \
	    echo "    apt-get install python$$bare-venv" >&2; \
	else \
	    echo "No Python 3.11 or newer was found: none of $(PYTHONS) will do." >&2; \
	    if [ -n "$$older" ]; then echo "Too old:$$older" >&2; fi; \
	    echo "Install one, or name it: make PYTHONS=/path/to/python3.13 …" >&2; \
	fi; \
	exit 1

$(VENV)/.demo-installed: pyproject.toml $(VENV)/.made
	@echo "Installing what the demonstration needs …" >&2
	@$(PIP) install --quiet --editable '.[demo]'
	@touch $@

# pip knows dependency groups from 25.1 on; a new venv may bring an older one.
$(VENV)/.dev-installed: pyproject.toml $(VENV)/.made
	@echo "Installing what the tests need …" >&2
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@$(PIP) install --quiet --editable '.[demo]' --group dev
	@touch $@ $(VENV)/.demo-installed

$(VENV)/.site-installed: $(VENV)/.dev-installed
	@$(PIP) install --quiet --group docs
	@touch $@
