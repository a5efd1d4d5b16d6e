# make run: a first machine. make test: every check. make test-v2: the tests of limits again, on a
# Debian kernel with nothing but cgroup v2, and those of SELinux, under QEMU. All set up what they need.
VENV := .venv
PYTHON := $(VENV)/bin/python
SOURCES := $(shell find src native meson.build pyproject.toml -type f -not -name '*.pyc')

.PHONY: run test test-v2 check setup benchmark clean

run: $(VENV)/installed
	@$(PYTHON) examples/first_machine.py

test: $(VENV)/developed
	@tools/check $(VENV)
	@$(PYTHON) -m pytest -n 2 $(TESTS)

test-v2: $(VENV)/developed
	@tools/packages test-v2
	@$(PYTHON) tools/v2/run.py

check: $(VENV)/developed
	@tools/check $(VENV)

benchmark: $(VENV)/installed
	@tools/packages benchmark
	@$(PYTHON) benchmarks/launch.py

setup: $(VENV)/developed

$(VENV)/bin/python:
	@tools/packages run
	@python3 -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check .
	@touch $@

$(VENV)/developed: $(VENV)/installed
	@tools/packages test
	@$(PYTHON) tools/install_group.py dev
	@tools/judges $(VENV)/judges
	@touch $@

clean:
	rm -rf $(VENV) build
