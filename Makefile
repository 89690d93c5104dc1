# The two commands: `make up` brings the stack up, `make test` runs every test.
.PHONY: up test check bench docs golden lock

up:            ## bring the stack up (a second time changes nothing)
	@scripts/bootstrap
	@.venv/bin/aistack init --defaults --if-missing
	@.venv/bin/aistack up --yes

test:          ## everything, end to end too
	@scripts/bootstrap dev
	@scripts/test-tools
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
	.venv/bin/pytest

check:         ## format, types and unit tests, within a minute
	@scripts/bootstrap dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
	.venv/bin/pytest -q -n auto tests/unit

bench:         ## measurements side by side; writes docs/benchmarks.md
	@scripts/bootstrap dev
	.venv/bin/python -m benchmarks

docs:          ## what is generated from the code: the sample file and the reference
	@scripts/bootstrap dev
	.venv/bin/python -m aistack.config.reference

lock:          ## pin what aistack, Open WebUI and Chroma stand on, after a change of a version
	@scripts/bootstrap dev
	@scripts/lock

golden:        ## the trees that the examples render to, after a change that was meant
	@scripts/bootstrap dev
	AISTACK_WRITE_GOLDEN=1 .venv/bin/pytest -q tests/unit/test_golden.py
