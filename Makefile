# Two commands are enough: `make serve` and `make test`. Both install what is missing first; README.md has them without make.
# Options go through ARGS: make serve ARGS="--port 9000", make test ARGS="tests/engine -x" (for --pdb or -s: "-n 0 --pdb").

PYTHON ?= python3
ARGS ?=
# Much of a test is waiting: two processes that share the files take 0.7 of the time on two cores.
PYTEST = .venv/bin/python -m pytest -n 2 --dist loadfile

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

serve:  ## Serve the shipped model on http://127.0.0.1:8000
	@$(PYTHON) requirements/install.py runtime
	@exec .venv/bin/frontdesk serve $(ARGS)

test:  ## Run the tests
	@$(PYTHON) requirements/install.py test
	@exec $(PYTEST) $(ARGS)

check:  ## Lint and type-check, then run the tests
	@$(PYTHON) requirements/install.py test
	@.venv/bin/ruff check .
	@.venv/bin/pyright
	@exec $(PYTEST) $(ARGS)

lock:  ## Write the requirements files anew (needs uv)
	@requirements/lock.sh

.PHONY: help serve test check lock
