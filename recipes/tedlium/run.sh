#!/usr/bin/env bash
# Talks of the TED conference: SI, LHUC and SAT-LHUC beside tables IV and X of the paper (TED-LIUM, OpenSLR 7, 19, 51).
#
#   bash recipes/tedlium/run.sh --corpus DIR                 DIR: TEDLIUM_release1, 2 or -3, as unpacked
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
corpus="" text="" sets="dev test"
parse_options "corpus text sets" "$@"
set_up
preset=tedlium
[[ -z $text ]] || language_model=(--text "$text")

if stage 1 prepare; then
  [[ -n $corpus ]] || fail "--corpus DIR says where the corpus lies (see README.md)"
  lhuc-prepare tedlium --root "$corpus" --out "$data"
fi

if stage 2 train; then
  train si
fi

if stage 3 adapt; then
  for set in $sets; do adapt si "$set"; done
fi

if stage 4 sat; then # 60 % of the frames through the row of nobody in particular, as in the paper
  train sat sat=frame sat.share=0.6
  for set in $sets; do adapt sat "$set"; done
fi

if stage 5 table; then
  table
fi
