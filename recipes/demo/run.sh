#!/usr/bin/env bash
# The whole main job on speech that the recipe makes itself: prepare, train, adapt, score.
#
#   bash recipes/demo/run.sh                       about 5 minutes on 2 cores, after the set-up
#   bash recipes/demo/run.sh --size smallest       about a minute; its figures mean nothing
#   bash recipes/demo/run.sh --stage adapt adapt.num_epochs=1
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
size=full
parse_options "size" "$@"
set_up demo

[[ $size == full || $size == smallest ]] || fail "--size is full or smallest, not '$size'"
experiment=demo
[[ $size == full ]] || experiment=demo_smallest

if stage 1 prepare; then
  lhuc-prepare demo --size "$size" --out "$data"
fi

if stage 2 train; then
  lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --text "$data/lm_text.txt" --dev "$data/dev" \
    --out "$exp/si" experiment=$experiment "${overrides[@]}"
fi

if stage 3 adapt; then
  lhuc-adapt --model "$exp/si" --data "$data/test" --all-speakers --out "$exp/lhuc" \
    experiment=$experiment "${overrides[@]}"
fi

if stage 4 score; then
  lhuc-score --ref "$data/test" --hyp SI="$exp/lhuc/si" --hyp LHUC="$exp/lhuc/adapted" \
    --profiles "$exp/lhuc/profiles" --out "$exp/score"
fi
