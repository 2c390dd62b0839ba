#!/usr/bin/env bash
# Meetings through headsets or one distant microphone: SI, LHUC and SAT-LHUC beside tables V and VIII of the paper.
#
#   bash recipes/ami/run.sh --corpus DIR --lexicon FILE [--microphone sdm] [model=cnn]
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
corpus="" text="" sets="dev test" lexicon="" microphone=ihm
parse_options "corpus text sets lexicon microphone" "$@"
set_up
preset=ami
[[ -z $text ]] || language_model=(--text "$text")

if stage 1 prepare; then
  [[ -n $corpus ]] || fail "--corpus DIR says where the corpus lies (see README.md)"
  need_lexicon
  lhuc-prepare ami --root "$corpus" --out "$data" --lexicon "$lexicon" --microphone "$microphone" --keep-going
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
