#!/usr/bin/env bash
# Telephone conversations: SI, LHUC and SAT-LHUC beside table XII of the paper (Switchboard-1, HUB5 2000).
#
#   bash recipes/swbd/run.sh --corpus DIR --lexicon FILE       DIR holds the packages LDC97S62 and so on
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
corpus="" text="" sets="eval2000_swb eval2000_che" lexicon=""
parse_options "corpus text sets lexicon" "$@"
set_up
preset=swbd
[[ -z $text ]] || language_model=(--text "$text")

if stage 1 prepare; then
  [[ -n $corpus ]] || fail "--corpus DIR says where the corpus lies (see README.md)"
  need_lexicon
  lhuc-prepare swbd --root "$corpus" --out "$data" --lexicon "$lexicon" --keep-going
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
