# `make demo` and `make test` do all their own set-up, once.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready

.PHONY: demo test test-all bench lint env ops clean

demo: ops
	$(RUN) tools/demo.py

test: ops lint
	$(RUN) -m pytest -n 2 --dist loadscope -m "not slow"

test-all: ops lint
	$(RUN) -m pytest -n 2 --dist loadscope

bench: ops
	$(RUN) ops/benchmarks/bench_binary.py
	$(RUN) ops/benchmarks/bench_models.py --clock cpu

# the 1-bit kernels; says why where they cannot be built
ops: $(READY)
	@$(RUN) tools/dev/build_ops.py

lint: $(READY)
	$(RUN) -m flake8 .
	$(RUN) -m isort --check-only --quiet .
	$(RUN) -m yapf --diff --recursive --parallel mmcompress tools \
		tests configs projects ops setup.py || \
		{ echo "run: $(VENV)/bin/yapf -ir mmcompress tools tests configs projects ops setup.py"; exit 1; }

env: $(READY)
	$(RUN) -m mmcompress.check_env

$(READY): tools/dev/setup_venv.py tools/dev/build_mmcv.py $(wildcard requirements/*.txt)
	$(PYTHON) tools/dev/setup_venv.py $(VENV)
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist mmcompress.egg-info mmcompress/.mim \
		mmcompress/ops/_C*.so
