#!/usr/bin/env bash
# Sets up, then runs every default test, two files at a time; arguments go to pytest:
#
#   bash scripts/test.sh                     all but the slow ones
#   bash scripts/test.sh tests/hmm -m slow   one room's slow tests
#   bash scripts/test.sh -n 0 --pdb          one after the other, with the debugger where one fails
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh" demo test
cd "$root"
export PATH=${LHUC_ASR_VENV:-$root/.venv}/bin:$PATH OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m pytest -n 2 --dist loadfile "$@"
