# make demo: a short real pretraining on real videos, ending in pictures and numbers.  make test: all tests.
# make docs: the documentation, into site/.      make wheel: a wheel to give away, into dist/.
# make test-fast: the quick ones, in a minute.    make sanitize: the operators under ASan and UBSan.
# make torch-headers: does every source compile against the oldest and the newest torch, and for other processors?
# The README says under Install what all of them need; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Sources whose change asks for a new build of the compiled operators.
SOURCES := $(shell find csrc cmake -type f) CMakeLists.txt pyproject.toml constraints.txt

.PHONY: demo test test-fast core-tests render sanitize docs lint build wheel torch-headers clean
.DELETE_ON_ERROR:

demo: build render
	$(BIN)/tubeletx-train demo --output runs/demo

# Several files of tests at a time; what one of them builds for its tests is built once.
test: build core-tests render
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

# What is quick of all tests, several at a time; tests/slow_tests.txt names the others.
test-fast: build
	$(BIN)/python -m pytest -q -n auto -m "not slow"

# The operators under AddressSanitizer and UBSan, in an environment that shares the packages of .venv but not its build
# of tubeletx. Leaks are not looked for: Python and torch keep much until the end. An emulated processor has no room
# for the shadow memory.
SANITIZE := build/sanitize
SANITIZE_TESTS ?= tests/ops tests/api --deselect tests/ops/test_old_processor.py
sanitize: build
	$(BIN)/python -m venv --without-pip $(SANITIZE)/venv
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > \
	  $$($(SANITIZE)/venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/packages.pth
	CMAKE_ARGS= TUBELETX_CUDA=off TUBELETX_WERROR=OFF \
	  $(BIN)/python -m pip --python $(SANITIZE)/venv/bin/python install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --force-reinstall --config-settings build-dir=$(SANITIZE)/cmake \
	  --config-settings cmake.define.TUBELETX_SANITIZE=ON .
	rm -rf $(SANITIZE)/checkout && mkdir $(SANITIZE)/checkout && cp -r tests pyproject.toml $(SANITIZE)/checkout
	cd $(SANITIZE)/checkout && ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" \
	  ../venv/bin/python -m pytest -q -p no:cacheprovider $(SANITIZE_TESTS)

# The mathematics of csrc/core, against long double.
CORE_TESTS := build/core_tests
core-tests: build
	$(BIN)/cmake -S tests/core -B $(CORE_TESTS) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DCMAKE_PREFIX_PATH=$$($(BIN)/python -m cmeel cmake 2>/dev/null) > /dev/null
	$(BIN)/cmake --build $(CORE_TESTS)
	$(BIN)/ctest --test-dir $(CORE_TESTS) --output-on-failure

docs: build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find csrc tests/core -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

torch-headers: build
	$(BIN)/python tests/building/torch_headers.py

# One wheel for all interpreters that PYTHONS names, as in `make wheel PYTHONS="python3.10 python3.12"`, of a build of
# its own, which has none of the settings of the tests; it is tried by its self-test in an environment of its own.
PYTHONS ?= $(BIN)/python
WHEEL := build/wheel
ask = $$(for python in $(PYTHONS); do $$python -c "import sys; print($(1))"; done | paste -sd '$(2)')
wheel: build
	rm -rf dist $(WHEEL)
	TUBELETX_PYTHONS="$(call ask,sys.executable,;)" \
	  $(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps --config-settings build-dir=$(WHEEL)/cmake \
	  --wheel-dir $(WHEEL) .
	$(BIN)/python -m wheel tags --remove --abi-tag none \
	  --python-tag "$(call ask,'cp%d%d' % sys.version_info[:2],.)" $(WHEEL)/*.whl
	PATH=$(BIN):$$PATH $(BIN)/auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' --wheel-dir dist $(WHEEL)/*.whl
	$(PYTHON) -m venv $(WHEEL)/fresh
	$(WHEEL)/fresh/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cd $(WHEEL)/fresh && bin/python -m tubeletx

build: $(VENV)/installed

# The packages first, from constraints.txt alone, so that editing a kernel does not resolve them anew.
$(VENV)/packages: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  torch numpy pybind11 scikit-build-core ninja cmake
	touch $@

$(VENV)/installed: $(VENV)/packages $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --constraint constraints.txt \
	  --editable .[demo,dev,docs,examples,study]
	touch $@

# What renders labelled sets, 150 MB. pybullet has wheels for some Pythons alone, and takes
# long to compile: without it the demo ends before its last part, the tests that render are skipped, and both say so.
render: build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --only-binary pybullet pybullet metaworld || echo "no wheel of pybullet for this Python: nothing is rendered"

clean:
	rm -rf $(VENV) build dist
