#!/usr/bin/env bash
# LHUC on the smallest net there is: two moons, one person, one scale for each hidden unit, and a picture.
#
#   bash recipes/toy/run.sh        a few seconds; ends with exp/two_moons.png
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
parse_options "" "$@"
((${#overrides[@]} == 0)) || fail "there are no settings here, got ${overrides[*]}; two_moons.py --help tells options"
set_up

if stage 1 two_moons; then
  python "$recipe/two_moons.py" --out "$exp"
fi
