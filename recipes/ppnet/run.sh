#!/usr/bin/env bash
# Ranking with gates of who and what is shown: DNN, DNN with the user as a feature, PPNet, PEPNet and what they owe to.
#
#   bash recipes/ppnet/run.sh                                       on a click log that the recipe makes up
#   bash recipes/ppnet/run.sh --layout kuairand --corpus KuaiRand-Pure --out DIR
#   bash recipes/ppnet/run.sh --layout movielens --corpus ml-1m --out DIR click_split=by_user
#   bash recipes/ppnet/run.sh --seeds 1 click_log=small             the machinery alone; its figures mean nothing
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
layout=synthetic corpus="" seeds=5
parse_options "layout corpus seeds" "$@"
[[ $layout == synthetic || -n $corpus ]] || fail "--layout $layout needs --corpus DIR, where it lies"
set_up
only=() # the made-up log has likes as well; one task keeps it short
[[ $layout != synthetic ]] || only=(--task click)
rankers="dnn dnn_user ppnet pepnet ppnet_no_stop ppnet_no_identity ppnet_half"

if stage 1 prepare; then
  lhuc-rank prepare "$layout" ${corpus:+--root "$corpus"} "${only[@]}" --out "$data" "${overrides[@]}"
fi

if stage 2 train; then
  for ranker in $rankers; do
    say "$ranker"
    lhuc-rank train --data "$data" --out "$exp/$ranker" --seeds "$seeds" \
      experiment=ppnet ranker="$ranker" "${overrides[@]}"
  done
fi

if stage 3 evaluate; then
  systems=()
  for ranker in $rankers; do systems+=(--system "$ranker=$exp/$ranker"); done
  lhuc-rank evaluate --data "$data" "${systems[@]}" --out "$exp/test"
fi
