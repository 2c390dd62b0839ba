#!/usr/bin/env bash
# Features that fMLLR fits to each speaker, and LHUC on top of them; after run.sh --stage prepare, with the same --out.
#
#   bash recipes/speechocean762/fmllr.sh --out DIR              MFCCs as they are and transformed, dev and test
#   bash recipes/speechocean762/fmllr.sh --out DIR --stage amounts --stop-stage amounts
#   bash recipes/speechocean762/fmllr.sh --out DIR --stage tdnnf --stop-stage tdnnf
#   bash recipes/speechocean762/fmllr.sh --out DIR --stage lda        on LDA and MLLT of nine frames
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
parse_options "" "$@"
set_up
exp=$exp/fmllr

adapt() { # system, set, name of the run, further arguments of lhuc-adapt
  local system=$1 set=$2 name=$3
  shift 3
  lhuc-adapt --model "$exp/$system" --data "$data/$set" --all-speakers --out "$exp/$name/$set" "$@" "${overrides[@]}"
}

if stage 1 train; then
  for system in mfcc fmllr; do
    lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --dev "$data/dev" --out "$exp/$system" \
      experiment=speechocean762_$system "${overrides[@]}"
  done
fi

if stage 2 transforms; then # from the words of the network that saw features as they are, and of the GMM alone
  for set in dev test; do
    lhuc-decode --model "$exp/mfcc" --data "$data/$set" --out "$exp/si/$set" "${overrides[@]}"
    lhuc-fmllr --model "$exp/fmllr" --data "$data/$set" --text "$exp/si/$set" --out "$exp/transforms/$set" "${overrides[@]}"
    lhuc-fmllr --model "$exp/fmllr" --data "$data/$set" --out "$exp/transforms_gmm/$set" "${overrides[@]}"
  done
fi

if stage 3 decode; then
  for set in dev test; do
    for kind in transforms transforms_gmm; do
      lhuc-decode --model "$exp/fmllr" --data "$data/$set" --transforms "$exp/$kind/$set" \
        --out "$exp/decode_$kind/$set" "${overrides[@]}"
    done
    lhuc-decode --model "$exp/fmllr" --data "$data/$set" --no-transforms --out "$exp/decode_mismatch/$set" "${overrides[@]}"
    lhuc-score --ref "$data/$set" --hyp MFCC="$exp/si/$set" --hyp fMLLR="$exp/decode_transforms/$set" \
      --hyp fMLLR_by_GMM="$exp/decode_transforms_gmm/$set" --hyp mismatch="$exp/decode_mismatch/$set" --out "$exp/score/$set"
  done
fi

if stage 4 adapt; then # LHUC on features as they are, on transformed ones, and where the two do not match
  for set in dev test; do
    adapt mfcc "$set" lhuc
    adapt fmllr "$set" fmllr_lhuc --transforms "$exp/transforms/$set"
    adapt fmllr "$set" mismatch_lhuc --no-transforms
  done
fi

if stage 5 amounts; then # transforms and scales from few utterances of each speaker of dev, the rest scored
  for count in 3 6 10; do
    few=(protocol=enrolment protocol.num_utterances=$count fmllr.min_frames=200)
    lhuc-fmllr --model "$exp/fmllr" --data "$data/dev" --text "$exp/si/dev" --out "$exp/transforms_$count/dev" \
      "${few[@]}" "${overrides[@]}"
    adapt mfcc dev "lhuc_$count" "${few[@]}"
    adapt fmllr dev "fmllr_lhuc_$count" --transforms "$exp/transforms_$count/dev" "${few[@]}"
  done
fi

if stage 6 tdnnf; then # a TDNN-F on transformed features at three speeds, beside the DNN
  lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --dev "$data/dev" --dev-words "$exp/si/dev" \
    --out "$exp/tdnnf" experiment=speechocean762_tdnnf_fmllr "${overrides[@]}"
  for set in dev test; do
    words=$exp/si/$set
    for round in 1 2; do # transforms from the words of the DNN, then from its own
      lhuc-fmllr --model "$exp/tdnnf" --data "$data/$set" --text "$words" --out "$exp/tdnnf_$round/$set/transforms" \
        "${overrides[@]}"
      lhuc-decode --model "$exp/tdnnf" --data "$data/$set" --transforms "$exp/tdnnf_$round/$set/transforms" \
        --out "$exp/tdnnf_$round/$set/decode" decoding.hypothesis=mbr "${overrides[@]}"
      words=$exp/tdnnf_$round/$set/decode
    done
    lhuc-score --ref "$data/$set" --hyp MFCC="$exp/si/$set" --hyp TDNN-F="$exp/tdnnf_1/$set/decode" \
      --hyp again="$exp/tdnnf_2/$set/decode" --out "$exp/tdnnf_2/$set/score"
  done
fi

if stage 7 lda; then # nine frames of MFCCs by LDA and MLLT, as they are, then transformed
  train_lda() { # system, arguments
    lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --dev "$data/dev" --out "$exp/$1" \
      experiment=speechocean762_mfcc features=mfcc_static lda=mllt "${@:2}" "${overrides[@]}"
  }
  train_lda lda
  for set in dev test; do adapt lda "$set" lda_lhuc; done
  train_lda lda_fmllr fmllr=sat --dev-words "$exp/lda_lhuc/dev/si"
  for set in dev test; do
    lhuc-fmllr --model "$exp/lda_fmllr" --data "$data/$set" --text "$exp/lda_lhuc/$set/si" \
      --out "$exp/lda_transforms/$set" "${overrides[@]}"
    adapt lda_fmllr "$set" lda_fmllr_lhuc --transforms "$exp/lda_transforms/$set"
    lhuc-score --ref "$data/$set" --hyp LDA="$exp/lda_lhuc/$set/si" --hyp LHUC="$exp/lda_lhuc/$set/adapted" \
      --hyp fMLLR="$exp/lda_fmllr_lhuc/$set/si" --hyp both="$exp/lda_fmllr_lhuc/$set/adapted" --out "$exp/lda_score/$set"
  done
fi
