#!/usr/bin/env bash
# The main job on real speech: English read by native speakers of Mandarin, half of them children (OpenSLR 101).
#
#   bash recipes/speechocean762/run.sh --corpus DIR             everything from zero, dev and test
#   bash recipes/speechocean762/run.sh --corpus DIR --stage sweep --stop-stage sweep
#   bash recipes/speechocean762/run.sh --corpus DIR --system tdnnf_lfmmi       another system, in exp/tdnnf_lfmmi
#   bash recipes/speechocean762/run.sh --corpus DIR --system mine model=cnn criterion=cross_entropy training=adam
#   bash recipes/speechocean762/run.sh --stage sat --gammas "0.1 0.6"          only these shares of row 0, after train and adapt
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
corpus="" system="" gammas="0.1 0.3 0.5 0.6 0.7"
parse_options "corpus system gammas" "$@"
set_up
[[ -z $system ]] || exp=$exp/$system
preset=speechocean762
[[ ! -f $root/configs/experiment/speechocean762_$system.yaml ]] || preset=speechocean762_$system

adapt() { # set, name of the run, further arguments of lhuc-adapt
  local set=$1 name=$2
  shift 2
  lhuc-adapt --model "$exp/si" --data "$data/$set" --all-speakers --out "$exp/$name/$set" \
    --first-pass "$exp/first_pass/$set" experiment=speechocean762 "$@" "${overrides[@]}"
}

if stage 1 prepare; then
  [[ -n $corpus ]] || fail "--corpus DIR says where speechocean762 lies (see README.md)"
  lhuc-prepare speechocean762 --root "$corpus" --out "$data"
fi

if stage 2 train; then
  lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --dev "$data/dev" --out "$exp/si" \
    experiment=$preset "${overrides[@]}"
fi

if stage 3 decode; then
  for set in dev test; do
    lhuc-decode --model "$exp/si" --data "$data/$set" --out "$exp/decode/$set" experiment=speechocean762 "${overrides[@]}"
    awk '{ print $1, ($2 < 16 ? "children" : "adults") }' "$data/$set/spk2age" > "$exp/decode/$set/spk2group"
    lhuc-score --ref "$data/$set" --hyp SI="$exp/decode/$set" --out "$exp/decode/$set/score" \
      --groups "$exp/decode/$set/spk2group"
  done
fi

if stage 4 adapt; then # the default, under both protocols
  for set in dev test; do
    adapt "$set" two_pass protocol=two_pass
    adapt "$set" enrolment protocol=enrolment
  done
fi

if stage 5 oracle; then # research: targets from aligned references; it shows what better targets would be worth
  for set in dev test; do
    adapt "$set" oracle_two_pass protocol=two_pass adapt=oracle "lhuc.layers=[1,2,3,4]"
    adapt "$set" oracle_enrolment protocol=enrolment adapt=oracle "lhuc.layers=[1,2,3,4]"
  done
fi

if stage 6 sweep; then # on dev alone: amplitudes, layers, epochs
  sweep() { # name, settings
    local name=$1
    shift
    lhuc-sweep --model "$exp/si" --data "$data/dev" --all-speakers --out "$exp/sweep_$name" \
      experiment=speechocean762 "$@" "${overrides[@]}"
  }
  for protocol in two_pass enrolment; do
    sweep "epochs_$protocol" protocol=$protocol lhuc.amplitude=exp,sigmoid2,identity,relu adapt.num_epochs=1,2,3,5
    sweep "layers_$protocol" protocol=$protocol "lhuc.layers=[],[1],[2],[3],[4],[5],[6],[1,2],[1,2,3],[1,2,3,4]"
  done
fi

if stage 7 speed; then # real-time factors with one process and thread, and with two
  for count in 1 2; do
    lhuc-adapt --model "$exp/si" --data "$data/dev" --all-speakers --out "$exp/speed_$count" \
      experiment=speechocean762 "${overrides[@]}" runtime.num_jobs=$count runtime.num_threads=$count
  done
fi

if stage 8 sat; then # research: speaker-adaptive training by the share gamma of row 0, beside LHUC on SI; on dev alone
  for gamma in $gammas; do
    sat=$exp/sat_$gamma
    mkdir -p "$sat/si/work"
    for part in features gmm gmm_features; do # nothing of them is learnt from the scales
      [[ -e $sat/si/work/$part ]] || cp -r "$exp/si/work/$part" "$sat/si/work"
    done
    lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --out "$sat/si" \
      experiment=$preset sat=frame "${overrides[@]}" sat.share="$gamma"
    cp "$exp/si/decoding.json" "$sat/si" # all are searched with the settings that were chosen for SI
    for protocol in two_pass enrolment; do
      exp=$sat adapt dev $protocol protocol=$protocol
    done
  done
  for protocol in two_pass enrolment; do
    points=()
    for gamma in $gammas; do
      found=$exp/sat_$gamma/$protocol/dev
      points+=(--hyp "SAT, SI mode@$gamma=$found/si" --hyp "SAT-LHUC@$gamma=$found/adapted")
    done
    lhuc-score --ref "$data/dev" --common --out "$exp/sat_curve/$protocol" --curve gamma \
      --hyp SI="$exp/$protocol/dev/si" --hyp LHUC="$exp/$protocol/dev/adapted" "${points[@]}"
  done
fi
