# foveate. `make demo` shows it, `make test` checks it; both set up .venv by themselves.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: help demo test conformance check fix web bench clean

help:            ## list these targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

demo: $(VENV)/.installed   ## what the built-in model sees in "The cat sat on the mat ...", in the terminal, a file and a live page
	$(BIN)/foveate demo

test: $(VENV)/.dev         ## all tests, the browser's included
	@sh scripts/chromium.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile

conformance: $(VENV)/.dev  ## only the tests that others wrote: ONNX's, PyTorch's, transformers' own results
	$(BIN)/python -m pytest tests/conformance

check: $(VENV)/.dev        ## formatting, lint, types, and that the built page is that of its source; writes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	@sh scripts/web.sh check

fix: $(VENV)/.dev          ## format and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

web:                       ## build the page (needs Node 20)
	@sh scripts/web.sh build

bench: $(VENV)/.dev        ## every figure beside a peer's, into benchmarks/results/; takes minutes (ONLY=name for one)
	@$(BIN)/python benchmarks/run.py $(addprefix --only ,$(ONLY))

clean:           ## remove what was set up
	rm -rf $(VENV) web/node_modules

# torch goes first and by its pin: asked for by another package, pip would take gigabytes of GPU libraries.
$(VENV)/.torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "foveate needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "foveate needs Python 3.11 or newer")'
	@echo "setting up $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) "$$(grep '^torch' constraints.txt)"
	@touch $@

CORE := hatch_build.py src/foveate/native/build.py $(wildcard src/foveate/native/*.cpp src/foveate/native/*.h)

$(VENV)/.installed: $(VENV)/.torch pyproject.toml $(CORE)
	@$(PIP) --editable '.[view]'
	@touch $@

# Triton has a folder of its own: where it is installed, torch loads it, and every process takes 75 MB more.
$(VENV)/.dev: $(VENV)/.torch pyproject.toml $(CORE)
	@$(PIP) --editable '.[dev]'
	@$(PIP) --upgrade --target $(VENV)/gpu triton || echo "no triton for this platform: tests of the GPU kernels are skipped"
	@touch $@ $(VENV)/.installed
