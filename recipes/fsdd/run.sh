#!/usr/bin/env bash
# Isolated digits of six speakers with different accents: one speaker is left out at a time (Free Spoken Digit Dataset).
#
#   bash recipes/fsdd/run.sh --corpus DIR
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
corpus=""
parse_options "corpus" "$@"
set_up

if stage 1 prepare; then
  [[ -n $corpus ]] || fail "--corpus DIR says where the Free Spoken Digit Dataset lies (see README.md)"
  lhuc-prepare fsdd --root "$corpus" --out "$data"
fi

for left_out in "$data"/without-*; do
  name=$(basename "$left_out")
  if stage 2 train; then
    lhuc-train --data "$left_out/train" --lexicon "$data/lexicon.txt" --dev "$left_out/dev" --out "$exp/$name/si" \
      experiment=fsdd "${overrides[@]}"
  fi
  if stage 3 adapt; then
    lhuc-adapt --model "$exp/$name/si" --data "$left_out/test" --all-speakers --out "$exp/$name/lhuc" \
      experiment=fsdd "${overrides[@]}"
  fi
done

if stage 4 score; then
  cat "$data"/without-*/test/text >"$exp/ref"
  cat "$data"/without-*/test/utt2spk >"$exp/utt2spk"
  cat "$exp"/without-*/lhuc/si/text >"$exp/si"
  cat "$exp"/without-*/lhuc/adapted/text >"$exp/adapted"
  lhuc-score --ref "$exp/ref" --utt2spk "$exp/utt2spk" --hyp SI="$exp/si" --hyp LHUC="$exp/adapted" --out "$exp/score"
fi
