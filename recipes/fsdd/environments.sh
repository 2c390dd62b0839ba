#!/usr/bin/env bash
# Scales of speakers, of environments and of both, in simulated noise and channels, each speaker left out once; after
# run.sh --stage prepare, with the same --out.
#
#   bash recipes/fsdd/environments.sh --out DIR 'environments.noises=[pink]' 'environments.channels=[room]'
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
parse_options "" "$@"
set_up
names=(SI environment product joint alpha_0.5 alpha_0.7 speaker again)
folders=(decode/si decode/alpha_0 decode/product joint/adapted decode/alpha_0.5 decode/alpha_0.7 decode/alpha_1 again/adapted)

if stage 1 folds; then
  for left_out in "$data"/without-*; do
    [[ -d $left_out ]] || fail "there are no folds in $data: run run.sh --stop-stage prepare first, with the same --out"
    bash "$root/recipes/speechocean762/environments.sh" --out "$out" --fold "$(basename "$left_out")" --experiment fsdd "${overrides[@]}"
  done
fi

if stage 2 score; then # rows of table XIII over all speakers; columns: clean, noise, channel, both
  all=$exp/environments systems=()
  mkdir -p "$all"
  for table in text utt2spk spk2condition; do cat "$data"/without-*/environments/test/$table >"$all/$table"; done
  for index in "${!names[@]}"; do
    cat "$exp"/without-*/environments/"${folders[index]}"/text >"$all/${names[index]}"
    systems+=(--hyp "${names[index]}=$all/${names[index]}")
  done
  lhuc-score --ref "$all/text" --utt2spk "$all/utt2spk" "${systems[@]}" --groups "$all/spk2condition" --out "$all/score"
fi
