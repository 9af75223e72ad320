# Everything goes through .venv, which the first target that needs it makes.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# The first of these that is at least 3.11 and can make a virtual environment; PYTHON=... overrides.
PYTHON  ?=
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
USABLE  := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

HOURS ?=
# A cell that has not come back an hour after the run's own ceiling has lost its kernel's reply.
CELL_TIMEOUT = $(shell awk 'BEGIN { print int(3600 * ("$(HOURS)" + 1)) }')

.PHONY: help setup lab00 lab01 lab02 lab03 quiz done rehearsal stop test test-long browser-test notebooks book lab mlflow lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv with everything the labs and the tests need

$(STAMP): pyproject.toml constraints.txt
	@if ! $(PY) -c '$(USABLE)' 2>/dev/null; then \
	  for python in $(PYTHONS) none; do $$python -c '$(USABLE)' 2>/dev/null && break; done; \
	  if [ $$python = none ]; then \
	    echo "make: none of '$(PYTHONS)' is Python 3.11 or newer with the venv module: install one, or name it with PYTHON=/path/to/python" >&2; exit 1; \
	  fi; \
	  $$python -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing into $(VENV): some minutes the first time (README, \"Set-up\")"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lab,data,dev]'
	@touch $@

# Check, execute with papermill, leave the notebook in papermill_runs/: $(call execute,NAME)
define execute
@test -f notebooks/$(1).ipynb || { echo "make: notebooks/$(1).ipynb is missing: run 'make notebooks'" >&2; exit 1; }
@mkdir -p papermill_runs
cd notebooks && ../$(VENV)/bin/papermill $(1).ipynb ../papermill_runs/$(1).ipynb \
  -k python3 $(if $(HOURS),-p hours $(HOURS)) \
  --log-output --no-progress-bar --autosave-cell-every 5 --execution-timeout $(CELL_TIMEOUT)
endef

# A lab at a rehearsal's size, in a folder of its own: $(call rehearse,NAME,PARAMETERS)
REHEARSAL   := build/rehearsal
REHEARSE_00 ?= -p hours 0.05 -p ladder_minutes 0.5
REHEARSE_01 ?= -p hours 0.12
REHEARSE_02 ?= -p case 1
REHEARSE_03 ?=
define rehearse
@echo "== rehearsal: $(1) =="
@test -f notebooks/$(1).ipynb || { echo "make: notebooks/$(1).ipynb is missing: run 'make notebooks'" >&2; exit 1; }
@mkdir -p $(REHEARSAL)
@cd notebooks && X1_MLFLOW=off ../$(VENV)/bin/papermill $(1).ipynb ../$(REHEARSAL)/$(1).ipynb \
  -k python3 $(2) --no-progress-bar --execution-timeout 1800
endef

lab00: $(STAMP) ## train a model on real text and leave its notebook in papermill_runs/ (HOURS=0.5 for longer)
	$(call execute,lab00)
	@echo "Executed notebook: papermill_runs/lab00.ipynb   Run: experiments/X1-pretraining/"

lab01: $(STAMP) ## train some thirty small models and fit a scaling law to them, about ten minutes (HOURS=0.5 for longer)
	$(call execute,lab01)
	@echo "Executed notebook: papermill_runs/lab01.ipynb   Points, law: experiments/X1-pretraining/scaling-law/"

lab02: $(STAMP) ## make a loss spike with a hidden cause, rewind it and try recoveries, about five minutes
	$(call execute,lab02)
	@echo "Executed notebook: papermill_runs/lab02.ipynb   Page: experiments/X1-pretraining/spike-postmortem.md"

lab03: $(STAMP) ## quantise lab00's model, time it beside open-weights shapes and price a token, about three minutes
	$(call execute,lab03)
	@echo "Executed notebook: papermill_runs/lab03.ipynb   Prices: experiments/X1-pretraining/inference-cost/"

quiz: $(STAMP) ## take the quiz in the terminal: sixteen questions, thirteen right pass (SEED=7 for those of a seed)
	@$(PY) -m x1lib.quiz $(if $(SEED),--seed $(SEED)) || [ $$? -eq 1 ]

done: $(STAMP) ## check what the course asks for, box by box, by doing it again
	@$(PY) -m x1lib.done || [ $$? -eq 1 -o $$? -eq 3 ]

rehearsal: $(STAMP) ## all labs and the quiz at a small size, about half an hour in build/rehearsal/, and the boxes
	$(call rehearse,lab00,$(REHEARSE_00) -p out $(REHEARSAL)/run-local)
	$(call rehearse,lab01,$(REHEARSE_01) -p out $(REHEARSAL)/scaling-law)
	$(call rehearse,lab02,$(REHEARSE_02) -p out $(REHEARSAL))
	$(call rehearse,lab03,$(REHEARSE_03) -p checkpoint $(REHEARSAL)/run-local -p out $(REHEARSAL)/inference-cost)
	@$(PY) -m x1lib.quiz --rehearse --out $(REHEARSAL)/quiz-score.json > $(REHEARSAL)/quiz.txt && tail -1 $(REHEARSAL)/quiz.txt
	@$(PY) -m x1lib.done $(REHEARSAL) || [ $$? -eq 3 ]

stop: $(STAMP) ## save and end the run that lab00 left at work in the background
	@$(PY) -m x1lib.launch stop

test: $(STAMP) ## run every test that CI runs
	@$(PY) tests/run_groups.py

test-long: $(STAMP) ## run them with their long versions
	@$(PY) tests/run_groups.py --long

browser-test: $(STAMP) ## move the calculator's slider in JupyterLab in a real Chromium (not part of make test)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt playwright
	@$(PY) tests/browser/calculator.py

notebooks: $(STAMP) ## build and execute every notebook from notebooks/src/
	@$(PY) notebooks/build.py

book: $(VENV)/.book ## make the notebooks a static site, build/book/index.html, without running them
	@rm -rf build/book build/book-source && mkdir -p build/book-source
	@cp notebooks/*.ipynb notebooks/book/index.md build/book-source
	@$(PY) -m sphinx -b html -q -W --keep-going -d build/book-doctrees -E \
	  -c notebooks/book build/book-source build/book
	@echo "The site: build/book/index.html"

$(VENV)/.book: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book]'
	@touch $@

lab: $(STAMP) ## open JupyterLab on the notebooks
	@$(VENV)/bin/jupyter lab --notebook-dir=notebooks

mlflow: $(STAMP) ## open mlflow on the runs that were mirrored into it (PORT=5001 for another port)
	@$(PY) -m x1lib.tracking.ui $(if $(PORT),--port $(PORT))

lint: $(STAMP) ## check style, and that no built notebook differs from its source
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) notebooks/build.py --check

format: $(STAMP) ## format the code
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

clean: ## remove caches and build folders, never .venv or a run
	@rm -rf build .cache .pytest_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf
