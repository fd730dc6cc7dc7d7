# Everything runs in .venv of this checkout. `make quickstart` is all a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install quickstart test lint unit stack slow bench dashboards-check docs clean requirements

install: $(INSTALLED)

# --no-deps: the pinned file is complete; resolving again would pull a CUDA torchvision that breaks CPU torch.
$(INSTALLED): requirements/cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "lessrl needs Python 3.11, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/cpu.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

quickstart: install
	$(BIN)/lessrl train deploy/recipes/quickstart.yaml $(ARGS)

test: lint unit stack slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy shaping rollout learner services dashboards
	$(BIN)/python -m dashboards.build --check

unit: install
	$(BIN)/python -m pytest -q -m "not stack and not slow"

stack: install
	$(BIN)/python -m pytest -q -m "stack and not slow"

slow: install
	$(BIN)/python -m pytest -q -m slow

bench: install
	@set -e; for each in shaping verdicts learner planning admission rollout loop pauses exposition; do $(BIN)/python -m tests.benchmarks.$$each $(ARGS); done

# Every query of every dashboard and alert against a real Prometheus over a real run, and a picture of each dashboard.
dashboards-check: install
	rm -rf build/dashboards
	$(BIN)/python -m dashboards.proof --out build/dashboards $(ARGS)

# The pages that are made from code.
docs: install
	$(BIN)/python -m services.recipe_reference > docs/recipes.md
	$(BIN)/python -m services.metrics.reference > docs/metrics.md
	$(BIN)/python -m services.method_reference > docs/methods.md
	$(BIN)/python -m services.api.openapi > docs/openapi.json
	$(BIN)/python -m services.path_figure docs/concepts.png

# Pins without hosts or paths. Give the folder of a CPU torch wheel as WHEELS, or PyTorch's CPU index to uv.
requirements: install
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra dev --python-version 3.11 $(if $(WHEELS),--find-links $(WHEELS)) \
		--override requirements/override-cpu.txt --no-header --no-annotate --output-file requirements/cpu.txt
	$(BIN)/uv pip compile pyproject.toml --extra gpu --extra postgres --extra tensorboard --extra wandb --extra mlflow --python-version 3.11 \
		--no-header --no-annotate --output-file requirements/gpu.txt

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
