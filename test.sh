#!/usr/bin/env bash
# Lint, types and tests: the same for people and for CI. Arguments go to pytest,
# whose tests run in a process for each core (`./test.sh -n 0`: in one).
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python}
"$python" -m ruff format --check .
"$python" -m ruff check .
"$python" -m pyrefly check
exec "$python" -m pytest -n "$(nproc)" --maxprocesses 8 --dist worksteal "$@"
