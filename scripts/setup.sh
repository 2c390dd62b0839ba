#!/usr/bin/env bash
# Makes the one virtual environment of this checkout, or brings it up to date; does nothing when there is nothing to do.
#
#   bash scripts/setup.sh [EXTRA ...]        extras of the package: demo, test, dev
#
# The environment is .venv in the project's root, or $LHUC_ASR_VENV. $PYTHON names the interpreter to build it with.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${LHUC_ASR_VENV:-$root/.venv}
stamp=$venv/lhuc_asr.stamp # line 1: what was installed from; line 2: the extras
wanted=$(cat "$root/pyproject.toml" "$root/constraints.txt" <(echo "$root") | cksum)

say() { echo "setup: $*" >&2; }

installed_extras() { # also of an environment that is out of date
  [[ ! -f $stamp ]] || tail -n 1 "$stamp"
}

is_done() {
  local extras extra
  [[ -f $stamp && $(head -n 1 "$stamp") == "$wanted" && -x $venv/bin/python ]] || return 1
  extras=" $(installed_extras) "
  for extra in "$@"; do [[ $extras == *" $extra "* ]] || return 1; done
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.10 python3 python}; do
    if "$candidate" -c 'import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  say "no Python 3.10 to 3.13 with venv among ${PYTHON:-python3.11, python3.12, python3.13, python3.10, python3}:" \
    "install one (Debian: apt install python3 python3-venv) or name it: PYTHON=/path/to/python3.11"
  return 1
}

install() { # the package with its extras; the time that has passed goes to the terminal, pip's words to a file
  local package=$1 log=$venv/setup.log pip
  "$venv/bin/python" -m pip --disable-pip-version-check install --prefer-binary \
    -c "$root/constraints.txt" -e "$package" >"$log" 2>&1 &
  pip=$!
  trap 'kill "$pip" 2>/dev/null || true; exit 130' INT TERM
  while kill -0 "$pip" 2>/dev/null; do
    sleep 1
    [[ -t 2 ]] && printf '\rsetup: %3d s  %-70.70s' "$SECONDS" "$(grep -v '^ ' "$log" | tail -n 1)" >&2
    ((SECONDS % 30)) || [[ -t 2 ]] || say "$SECONDS s"
  done
  [[ -t 2 ]] && printf '\r%80s\r' '' >&2
  trap - INT TERM
  if ! wait "$pip"; then
    grep -i error "$log" | tail -n 5 >&2 || true
    say "pip could not install the package; its whole output is in $log"
    return 1
  fi
}

is_done "$@" && exit
mkdir -p "$venv"
if command -v flock >/dev/null; then
  exec 9>"$venv/setup.lock"
  flock --nonblock 9 || { say "waiting for another set-up of $venv" && flock 9; }
  is_done "$@" && exit
fi

extras=$(printf '%s\n' $(installed_extras) "$@" | sort -u | tr '\n' ' ' | sed 's/^ *//; s/ *$//')
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  "$python" -m venv "$venv"
fi
named=${extras:+[${extras// /,}]}
say "installing lhuc_asr$named into $venv (once; 2 to 5 minutes and 5 GB where nothing is there yet)"
install "$root$named"
say "compiling what librosa compiles at its first use"
"$venv/bin/python" -c 'from lhuc_asr.data.speech_activity import warm_up; warm_up()'
printf '%s\n' "$wanted" "$extras" >"$stamp"
say "done in $SECONDS s"
