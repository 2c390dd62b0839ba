#!/usr/bin/env bash
# Talks of the TED conference: SI, LHUC and SAT-LHUC beside tables IV and X of the paper (TED-LIUM, OpenSLR 7, 19, 51).
#
#   bash recipes/tedlium/run.sh --corpus DIR                 DIR: TEDLIUM_release1, 2 or -3, as unpacked
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
preset=tedlium sets="dev test"
parse_paper_options "" "$@"

prepare() { lhuc-prepare tedlium --root "$corpus" --out "$data"; }

run_paper_stages
