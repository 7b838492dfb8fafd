# Two commands are enough: `make serve` and `make test`. Both install what is missing first; README.md has them without make.
# Options go through ARGS: make serve ARGS="--port 9000", make test ARGS="tests/engine -x".

PYTHON ?= python3
ARGS ?=

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

serve:  ## Serve the shipped model on http://127.0.0.1:8000
	@$(PYTHON) requirements/install.py runtime
	@exec .venv/bin/frontdesk serve $(ARGS)

test:  ## Run the tests
	@$(PYTHON) requirements/install.py test
	@exec .venv/bin/python -m pytest $(ARGS)

check:  ## Lint and type-check, then run the tests
	@$(PYTHON) requirements/install.py test
	@.venv/bin/ruff check .
	@.venv/bin/pyright
	@exec .venv/bin/python -m pytest $(ARGS)

lock:  ## Write the requirements files anew (needs uv)
	@requirements/lock.sh

.PHONY: help serve test check lock
