# `make demo` and `make test` do all their own set-up, once.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
ONEDL := .venv-onedl
LIGHT := .venv-light
CACHE := $(or $(MMCOMPRESS_CACHE),$(HOME)/.cache/mmcompress)

# How the demo gets mmcv's operators: `full` compiles mmcv, `light` takes ours
# in torch and compiles nothing of it. Without a word, full where it is there.
DEMO_SETUP := $(or $(SETUP),$(if $(wildcard $(READY) \
	$(CACHE)/wheels/*/mmcv-*.whl),full,light))
ifeq ($(filter full light,$(DEMO_SETUP)),)
$(error SETUP=$(SETUP): full or light)
endif
ifeq ($(SETUP),light)
ifneq ($(filter-out demo env-light check-light clean,$(MAKECMDGOALS)),)
$(error only the demo has a light set-up, the rest needs the compiled mmcv)
endif
endif
DEMO := $(if $(filter light,$(DEMO_SETUP)),$(LIGHT),$(VENV))

.PHONY: demo test test-all test-onedl bench docs lint env env-light \
	check-light ops wheel release-check clean

demo: $(DEMO)/ready
	@$(DEMO)/bin/python tools/dev/build_ops.py
	$(DEMO)/bin/python tools/demo.py

test: ops lint
	$(RUN) -m pytest -n 2 --dist loadscope -m "not slow"

test-all: ops lint
	$(RUN) -m pytest -n 2 --dist loadscope

# the parts that touch OpenMMLab, on its continuation under onedl-*
test-onedl: $(ONEDL)/ready
	@$(ONEDL)/bin/python tools/dev/build_ops.py
	$(ONEDL)/bin/python -m pytest -n 2 --dist loadscope -m "not slow" \
		tests/compat tests/test_check_env.py tests/distill tests/hooks \
		tests/integration

bench: ops
	$(RUN) ops/benchmarks/bench_binary.py
	$(RUN) ops/benchmarks/bench_ort_ops.py
	$(RUN) ops/benchmarks/bench_integer.py
	$(RUN) ops/benchmarks/bench_fake_quantize.py
	$(RUN) ops/benchmarks/bench_routed_attention.py
	$(RUN) ops/benchmarks/bench_match_merge.py
	$(RUN) ops/benchmarks/bench_combined.py
	$(RUN) ops/benchmarks/bench_one_row.py
	$(RUN) ops/benchmarks/bench_models.py --clock cpu

# the site, in build/site; in an environment of its own, without torch
docs: .venv-docs/ready
	.venv-docs/bin/python tools/dev/build_docs.py

.venv-docs/ready: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -q --disable-pip-version-check \
		-r requirements/docs.txt
	@touch $@

# the 1-bit kernels; says why where they cannot be built
ops: $(READY)
	@$(RUN) tools/dev/build_ops.py

# for machines without a compiler
wheel: $(READY)
	$(RUN) tools/dev/build_wheel.py

release-check: ops
	$(RUN) tools/dev/release.py --check

lint: $(READY)
	$(RUN) -m flake8 .
	$(RUN) -m isort --check-only --quiet .
	$(RUN) -m yapf --diff --recursive --parallel mmcompress tools \
		tests configs projects ops setup.py || \
		{ echo "run: $(VENV)/bin/yapf -ir mmcompress tools tests configs projects ops setup.py"; exit 1; }

env: $(READY)
	$(RUN) -m mmcompress.check_env

env-light: $(LIGHT)/ready
	$(LIGHT)/bin/python -m mmcompress.check_env

# one training step of a model of each kind, without the compiled mmcv
check-light: $(LIGHT)/ready
	$(LIGHT)/bin/python tools/dev/check_light.py

$(READY): tools/dev/setup_venv.py tools/dev/build_mmcv.py $(wildcard requirements/*.txt)
	$(PYTHON) tools/dev/setup_venv.py $(VENV)
	@touch $(READY)

$(ONEDL)/ready: tools/dev/setup_venv.py tools/dev/build_mmcv.py \
		$(wildcard requirements/*.txt)
	$(PYTHON) tools/dev/setup_venv.py --onedl $(ONEDL)
	@touch $@

$(LIGHT)/ready: tools/dev/setup_venv.py requirements/build.txt \
		requirements/runtime.txt requirements/openmmlab.txt \
		requirements/light.txt
	$(PYTHON) tools/dev/setup_venv.py --light $(LIGHT)
	@touch $@

clean:
	rm -rf $(VENV) $(ONEDL) $(LIGHT) .venv-docs build dist mmcompress.egg-info \
		mmcompress/ops/_C*.so mmcompress/ops/lib*.so
