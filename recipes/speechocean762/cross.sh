#!/usr/bin/env bash
# The DNN learns each speaker from the words of two TDNN-Fs, put together by ROVER; about 2 hours on 2 cores with training.
#
#   bash recipes/speechocean762/cross.sh --corpus DIR            what run.sh has made in --out is used again
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
corpus=""
parse_options "corpus" "$@"
set_up
teachers="tdnnf_lfmmi tdnnf_ce"

if stage 1 train; then # all three systems
  [[ -n $corpus || -d $data/train ]] || fail "--corpus DIR says where speechocean762 lies (see README.md)"
  bash "$recipe/run.sh" --corpus "$corpus" --out "$out" --stage "$([[ -n $corpus ]] && echo prepare || echo train)" --stop-stage train "${overrides[@]}"
  for teacher in $teachers; do
    bash "$recipe/run.sh" --out "$out" --system "$teacher" --stage train --stop-stage train "${overrides[@]}"
  done
fi

for set in dev test; do
  if stage 2 words; then # of both teachers, in each place those of the surer one
    for teacher in $teachers; do
      lhuc-decode --model "$exp/$teacher/si" --data "$data/$set" --out "$exp/$teacher/mbr/$set" --confidences \
        decoding.hypothesis=mbr "${overrides[@]}"
    done
    lhuc-score --ref "$data/$set" --hyp LF="$exp/tdnnf_lfmmi/mbr/$set" --hyp CE="$exp/tdnnf_ce/mbr/$set" \
      --combine both --nothing 0.3 --out "$exp/two/$set"
  fi
  if stage 3 adapt; then
    lhuc-adapt --model "$exp/si" --data "$data/$set" --all-speakers --out "$exp/cross/$set" \
      --first-pass "$exp/first_pass/$set" experiment=speechocean762 \
      adapt=cross_all adapt.words_from="$exp/two/$set/both" \
      adapt.lr=2 adapt.num_epochs=8 adapt.schedule=linear "${overrides[@]}"
  fi
done
