#!/usr/bin/env bash
# Isolated digits of six speakers with different accents: one speaker is left out at a time (Free Spoken Digit Dataset).
#
#   bash recipes/fsdd/run.sh --corpus DIR
#   bash recipes/fsdd/run.sh --corpus DIR --out cnn --stop-stage score model=cnn
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
corpus=""
parse_options "corpus" "$@"
set_up

each() { # do it for every speaker who is left out: data in $left_out, results in $fold
  for left_out in "$data"/without-*; do
    [[ -d $left_out ]] || fail "there are no folds in $data: run run.sh --stop-stage prepare first, with the same --out"
    fold=$exp/$(basename "$left_out") && "$@"
  done
}

train() { # name of the network, settings
  lhuc-train --data "$left_out/train" --lexicon "$data/lexicon.txt" --dev "$left_out/dev" --out "$fold/$1" \
    experiment=fsdd "${@:2}" "${overrides[@]}"
}

train_smbr() { # the network of cross-entropy, trained on
  train smbr criterion=smbr criterion.start="$fold/si" training.newbob.initial_lr=0.05
}

adapt() { # network, name of the run, settings
  lhuc-adapt --model "$fold/$1" --data "$left_out/test" --all-speakers --out "$fold/$2" experiment=fsdd \
    "${@:3}" "${overrides[@]}"
}

mfcc=(features=mfcc features.sampling_rate=8000)

train_fmllr() { # networks on MFCCs as they are, and fitted to each speaker
  train mfcc "${mfcc[@]}"
  train fmllr "${mfcc[@]}" fmllr=sat
}

adapt_fmllr() { # name of the run, settings: transforms from what was recognised on MFCCs as they are, LHUC on top
  lhuc-fmllr --model "$fold/fmllr" --data "$left_out/test" --text "$fold/mfcc_lhuc/si" --out "$fold/$1/transforms" \
    experiment=fsdd "${mfcc[@]}" "${@:2}" "${overrides[@]}"
  adapt fmllr "$1" --transforms "$fold/$1/transforms" "${mfcc[@]}" "${@:2}"
}

score() { # name of the run, options: all speakers together
  local name
  mkdir -p "$exp/$1"
  for name in text utt2spk; do cat "$data"/without-*/test/$name >"$exp/$name"; done
  for name in si adapted; do cat "$exp"/without-*/"$1"/$name/text >"$exp/$1/$name"; done
  lhuc-score --ref "$exp/text" --utt2spk "$exp/utt2spk" --hyp SI="$exp/$1/si" --hyp LHUC="$exp/$1/adapted" \
    --out "$exp/$1/score" "${@:2}"
}

if stage 1 prepare; then
  [[ -n $corpus ]] || fail "--corpus DIR says where the Free Spoken Digit Dataset lies (see README.md)"
  lhuc-prepare fsdd --root "$corpus" --out "$data"
fi

if stage 2 train; then
  each train si
fi

if stage 3 adapt; then
  each adapt si lhuc
fi

if stage 4 score; then
  score lhuc
fi

if stage 5 amounts; then # seconds of speech that are learnt from, drawn by chance: ids are sorted by digit
  for seconds in 10 30 60; do
    each adapt si seconds_$seconds protocol.shuffle=0 protocol.seconds=$seconds
    score seconds_$seconds
  done
fi

if stage 6 enrolment; then # one half is learnt from, by chance, the other is scored
  each adapt si enrolment protocol.shuffle=0 protocol=enrolment
  score enrolment --common
  each adapt si enrolment_oracle protocol.shuffle=0 protocol=enrolment adapt=oracle
  score enrolment_oracle --common
fi

if stage 7 smbr; then # a sequence-trained network, adapted by the cross-entropy of frames all the same
  each train_smbr
  each adapt smbr smbr_lhuc
  score smbr_lhuc
fi

if stage 8 settings; then # functions xi(r), epochs, layers, and rounds, one thing changed at a time
  for setting in lhuc.amplitude={identity,sigmoid2,relu} adapt.num_epochs={1,2,5} lhuc.layers=[{1,2,3,4}] protocol=rounds; do
    name=${setting//[][]/}
    each adapt si "$name" "$setting"
    score "$name"
  done
  each adapt si sigmoid2_3.2 lhuc.amplitude=sigmoid2 adapt.lr=3.2 # its slope at 1 is a half: a scale moves as far as that of exp
  score sigmoid2_3.2
fi

if stage 9 fmllr; then # transformed features and LHUC on top, also from little speech, and where transforms are left out
  each train_fmllr
  each adapt mfcc mfcc_lhuc "${mfcc[@]}"
  score mfcc_lhuc
  each adapt_fmllr fmllr_lhuc
  score fmllr_lhuc
  for seconds in 10 30; do
    each adapt_fmllr fmllr_$seconds protocol.shuffle=0 protocol.seconds=$seconds fmllr.min_frames=200
    score fmllr_$seconds
  done
  each adapt fmllr mismatch_lhuc --no-transforms "${mfcc[@]}"
  score mismatch_lhuc
  lhuc-score --ref "$exp/text" --utt2spk "$exp/utt2spk" --hyp MFCC="$exp/mfcc_lhuc/si" --hyp fMLLR="$exp/fmllr_lhuc/si" \
    --hyp fMLLR_10="$exp/fmllr_10/si" --hyp fMLLR_30="$exp/fmllr_30/si" --hyp mismatch="$exp/mismatch_lhuc/si" --out "$exp/fmllr_score"
fi
