#!/usr/bin/env bash
# What adapters, banks of speakers, updates and profile stores cost on this machine; nothing else should run meanwhile.
#
#   bash recipes/bench/run.sh                    about 20 minutes
#   bash recipes/bench/run.sh --stage store      100,000 profiles in a folder and in SQLite
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
parse_options "" "$@"
((${#overrides[@]} == 0)) || fail "there are no settings here, got ${overrides[*]}; lhuc-bench adapter --help tells options"
set_up test # with peft, which is measured beside

if stage 1 adapter; then
  lhuc-bench adapter --models dnn_4x512 dnn_6x2048 conformer --out "$exp/adapter"
fi

if stage 2 store; then
  lhuc-bench store --out "$exp/store"
fi

if stage 3 tables; then
  lhuc-bench tables --out "$exp/tables"
fi
