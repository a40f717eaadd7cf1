#!/usr/bin/env bash
# Lint, types and tests: the same for people and for CI. Arguments go to pytest,
# whose tests run in a process for each core (`./test.sh -n 0`: in one).
set -euo pipefail
cd "$(dirname "$0")"
# Whatever else is active, it is this interpreter's packages that count.
unset PYTHONPATH VIRTUAL_ENV CONDA_PREFIX
python=$("${PYTHON:-python}" -c 'import sys; print(sys.executable)')
"$python" -m ruff format --check .
"$python" -m ruff check .
"$python" -m pyrefly check --python-interpreter-path "$python"
exec "$python" -m pytest -n "$(nproc)" --maxprocesses 8 --dist worksteal "$@"
