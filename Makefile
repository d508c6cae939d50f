# The door of the project. `make` alone lists what it can do.
PYTHON ?= python3
PROFILE ?= demo
# recorded studies of `make reference`; a page is taken from the first that has it
RECORD ?= esc50-16k esc10
DATA ?=
EPOCHS ?=
START ?=
# notebooks at once
JOBS ?=
# what the companion notebooks read, see data/README.md
HRIR ?=
SPOKEN ?=
WRITTEN ?=
SUB_URMP ?=
LISTENERS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
STAMP := .venv/.setup-done
# idle threads sleep instead of spinning, which stalls a machine that others use too
export OMP_WAIT_POLICY := PASSIVE
# dodo.py reads these
export PROFILE DATA EPOCHS START JOBS HRIR SPOKEN WRITTEN SUB_URMP LISTENERS

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup book study reference record test browser lint clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' Makefile | expand -t 14
	@echo
	@echo "  make study PROFILE=esc50 [DATA=folder] [EPOCHS=n] [START=results/esc10] [JOBS=n]   profiles: demo esc10 esc50 esc50-16k"
	@echo "  PYTHON=python3.12 chooses the interpreter of .venv (3.11 to 3.13)."
	@echo "  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets the small CPU build of torch."

setup: $(STAMP) ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "setup: no '$(PYTHON)' on this machine; name a Python 3.11 to 3.13, as in: make setup PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "setup: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), the project needs Python 3.11 to 3.13; name one, as in: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "setup: making .venv"; "$(PYTHON)" -m venv --clear .venv; } || { echo "setup: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "setup: installing torch (a few minutes)"
	@$(PIP) torch
	@echo "setup: installing the rest"
	@$(PIP) -e '.[book,test,dev]'
	@$(BIN)/python -m esc_lib.machine.torchaudio_setup
	@touch $(STAMP)

book: override PROFILE := demo
book: override DATA :=
book: override HRIR :=
book: override SPOKEN :=
book: override WRITTEN :=
book: override SUB_URMP :=
book: override LISTENERS :=
book: study ## all notebooks on the generated clips, and the book: build/demo/html/index.html

study: $(STAMP) ## the same for PROFILE, with your own DATA and number of EPOCHS
	@$(BIN)/python -m doit

reference: export REFERENCE := $(RECORD)
reference: $(STAMP) ## the book of the committed reference run, nothing computed: build/reference/html
	@$(BIN)/python -m doit

record: $(STAMP) ## put the finished study of PROFILE into results/, to be committed
	@$(BIN)/python -m doit record

test: $(STAMP) ## the tests, on all cores
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

browser: $(STAMP) ## what players and sliders do in a headless Chromium
	@$(BIN)/python -m pytest -q -m browser tests/figures

lint: $(STAMP) ## the linter
	@$(BIN)/ruff check .

clean: ## remove build/, keep .venv and data
	rm -rf build
