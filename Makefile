# make lab         install, and open the course in JupyterLab (PYTHON=/path/to/python3.12 chooses the Python)
# make test        install, then every check, test and notebook. Its parts:
#   make check       style, types, layers, and whether the notebooks are built
#   make system      Chromium and Fashion-MNIST from Debian's packages, where that is possible
#   make notebooks   every notebook, cell by cell
#   make fast        the tests of the library that take no time: two minutes
# make stress      what takes long and is no part of `make test`: whole classes graded, hundreds of kills, many seeds
# make site        the course as a website, in site/ (REPOSITORY=owner/name on GitHub: with links to it and to Colab)
# make bench       timings side by side with other libraries
# make clean       remove what the others made, the environment included
# PIP_OPTIONS="…"  handed to pip by all that install, such as --extra-index-url with PyTorch's CPU packages
VENV ?= .venv
PY := $(VENV)/bin/python
WORKERS ?= 2
PIP_OPTIONS ?=

# Two test processes with one thread each finish sooner on two cores than two that fight over both.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: help setup lab test fast stress check system notebooks site bench clean
help:
	@sed -n 's/^# \{0,1\}//p;/^VENV/q' Makefile

setup: $(VENV)/.installed-dev

# The stamp is written when an install has ended well: no stamp, or one older than these files, means install (again).
$(VENV)/.installed-%: pyproject.toml constraints.txt
	PIP_OPTIONS="$(PIP_OPTIONS)" sh tools/setup.sh $(VENV) $*

lab: $(VENV)/.installed-lab
	$(PY) tools/open_lab.py

test: check system
	$(PYTEST) -m "not stress" --durations=25 --notebooks notebooks tests

fast: setup
	$(PYTEST) -m "not slow and not stress and not notebook and not browser and not parity" tests

stress: setup
	$(PYTEST) -m stress --durations=25 tests

# One result per cell, for authors; `make test` runs each notebook in one go.
notebooks: setup
	$(PYTEST) --nbval-lax --nbval-cell-timeout=600 notebooks

check: setup
	$(PY) tools/check.py

system:
	sh tools/install_system.sh

site: $(VENV)/.installed-site
	$(PY) tools/website/build.py --repository "$(REPOSITORY)"

bench: setup
	$(PY) -m pip install --quiet $(PIP_OPTIONS) --constraint constraints.txt --editable ".[bench]"
	$(PY) -m benchmarks

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
