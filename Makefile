# Every target creates .venv when it is missing. Options: PYTHON=/path/to/python3.12, WORKERS=2 (test processes).
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
export PYTHON

.PHONY: install format lint types test test-all demo demo-full study-cls study-cls-full study-ovd study-zss clean
.DEFAULT_GOAL := install

install: $(STAMP)

$(STAMP): pyproject.toml
	@sh tools/install.sh

format: $(STAMP)
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

test: $(STAMP)
	$(PYTEST)

# Slow tests too; those that need a GPU are skipped where there is none.
test-all: $(STAMP)
	$(PYTEST) -m ""

demo: $(STAMP)
	$(BIN)/python tools/demo.py

demo-full: $(STAMP)
	$(BIN)/python tools/demo.py --full

# Prompt learners on the toy world's crops: ten paired seeds, a table, curves, hypotheses (work_dirs/study_cls).
study-cls: $(STAMP)
	$(BIN)/python tools/study_cls.py

# Over three class splits and three tiny CLIPs, and once in the paper's setting: about an hour. It goes on where it stopped.
study-cls-full: $(STAMP)
	$(BIN)/python tools/study_cls.py --full

# Prompts in a ViLD detector on shifted toy scenes: seven ways, three modes, three seeds (work_dirs/study_ovd).
study-ovd: $(STAMP)
	$(BIN)/python tools/study_ovd.py

# Words in a segmentor on shifted toy scenes with few labelled images: six heads, five seeds (work_dirs/study_zss).
study-zss: $(STAMP)
	$(BIN)/python tools/study_zss.py

# Caches and builds only: .venv, work_dirs and data are yours to remove.
clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find subpt_dense tests tools configs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
