#!/usr/bin/env bash
# Scales of speakers, of environments and of both, in simulated noise and channels; after run.sh --stage prepare, with
# the same --out. Sound files (FLAC, about 75 kB each) go below DIR/data: every utterance of dev and test in twelve
# environments, of train in three.
#
#   bash recipes/speechocean762/environments.sh --out DIR
#   bash recipes/speechocean762/environments.sh --out DIR 'environments.noises=[pink]' 'environments.channels=[room]'
#   bash recipes/speechocean762/environments.sh --out DIR --experiment demo --text DIR/data/lm_text.txt
#                                                after recipes/demo/run.sh --stage prepare: synthetic voices
#   bash recipes/fsdd/environments.sh --out DIR  after recipes/fsdd/run.sh --stage prepare: each speaker left out once (--fold)
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
experiment=speechocean762 text="" fold=""
parse_options "experiment text fold" "$@"
set_up
lexicon=$data/lexicon.txt
data=$data${fold:+/$fold} exp=$exp${fold:+/$fold}/environments

where=() rest=() # settings of the environments and all others, which the networks need
for override in "${overrides[@]}"; do
  if [[ $override == environments* ]]; then where+=("$override"); else rest+=("$override"); fi
done

heard() { echo "$data/environments/$1"; }

simulate() { # set, preset of environments
  lhuc-environments --data "$data/$1" --out "$(heard "$1")" experiment="$experiment" environments="$2" "${where[@]}" "${rest[@]}"
}

learn() { # set, name of the run, table of groups
  lhuc-adapt --model "$exp/si" --data "$(heard "$1")" --all-speakers --groups "$(heard "$1")/$3" --out "$exp/$2/$1" \
    --no-second-pass experiment="$experiment" "${rest[@]}"
}

recognise() { # name of the run, store of profiles
  lhuc-decode --model "$exp/si" --data "$(heard test)" --profiles "$2" --out "$exp/decode/$1" \
    experiment="$experiment" "${rest[@]}"
}

if stage 1 environments; then # 10 to 20 dB to train on, 5 to 15 dB to test and to learn environments from
  simulate train training
  simulate dev test
  simulate test test
fi

if stage 2 train; then # one network for all environments
  lhuc-train --data "$(heard train)" --lexicon "$lexicon" --dev "$(heard dev)" --out "$exp/si" \
    ${text:+--text "$text"} experiment="$experiment" "${rest[@]}"
fi

if stage 3 decode; then
  lhuc-decode --model "$exp/si" --data "$(heard test)" --out "$exp/decode/si" experiment="$experiment" "${rest[@]}"
fi

if stage 4 learn; then # speakers from their clean speech, environments from other people's, pairs from their own
  learn test speaker utt2clean
  learn dev environment utt2env
  lhuc-adapt --model "$exp/si" --data "$(heard test)" --all-speakers --out "$exp/joint" experiment="$experiment" "${rest[@]}"
fi

if stage 5 factorise; then
  parts=(--speakers "$exp/speaker/test/profiles" --environments "$exp/environment/dev/profiles" --pairs "$(heard test)/spk2factors")
  for alpha in 0 0.5 0.7 1; do # 0 is the environment alone, 1 the speaker alone
    lhuc-profiles factorise --store "$exp/profiles/alpha_$alpha" "${parts[@]}" --alpha $alpha
    recognise "alpha_$alpha" "$exp/profiles/alpha_$alpha"
  done
  lhuc-profiles factorise --store "$exp/profiles/product" "${parts[@]}" --product
  recognise product "$exp/profiles/product"
fi

if stage 6 again; then # pairs once more, from what is recognised with the scales of their speakers
  lhuc-adapt --model "$exp/si" --data "$(heard test)" --all-speakers --out "$exp/again" experiment="$experiment" \
    adapt.supervision=words adapt.words_from="$exp/decode/alpha_1" "${rest[@]}"
fi

if stage 7 score; then # rows of table XIII; columns: clean, noise, channel, both
  systems=(--hyp SI="$exp/decode/si" --hyp speaker="$exp/decode/alpha_1" --hyp environment="$exp/decode/alpha_0")
  systems+=(--hyp joint="$exp/joint/adapted" --hyp alpha_0.5="$exp/decode/alpha_0.5" --hyp alpha_0.7="$exp/decode/alpha_0.7")
  lhuc-score --ref "$(heard test)" "${systems[@]}" --hyp product="$exp/decode/product" --hyp again="$exp/again/adapted" \
    --groups "$(heard test)/spk2condition" --out "$exp/score"
fi
