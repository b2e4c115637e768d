# make demo: a short real pretraining on real videos, ending in pictures and numbers.  make test: all tests.
# Both need only Python 3.10+, a C++17 compiler, cmake and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Sources whose change asks for a new build of the compiled operators.
SOURCES := $(shell find csrc cmake -type f) CMakeLists.txt pyproject.toml constraints.txt

.PHONY: demo test lint build clean
.DELETE_ON_ERROR:

demo: build
	$(BIN)/tubeletx-train demo --output runs/demo

test: build
	$(BIN)/python -m pytest

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

build: $(VENV)/installed

# The packages first, from constraints.txt alone, so that editing a kernel does not resolve them anew.
$(VENV)/packages: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  torch numpy pybind11 scikit-build-core ninja cmake
	touch $@

# A torch without CUDA could not load the CUDA operators, so their long build is spared unless it is asked for.
$(VENV)/installed: $(VENV)/packages $(SOURCES)
	TUBELETX_CUDA=$${TUBELETX_CUDA:-$$($(BIN)/python -c "import torch; print('auto' if torch.version.cuda else 'off')")} \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --constraint constraints.txt \
	  --editable .[demo,dev,docs,examples]
	touch $@

clean:
	rm -rf $(VENV) build dist
