#!/usr/bin/env bash
# Meetings through headsets or one distant microphone: the rows of tables V, VIII, IX and XI of the paper.
#
#   bash recipes/ami/run.sh --corpus DIR --lexicon FILE [--microphone sdm]
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper_fmllr.sh"
preset=ami sets="dev test" microphone=ihm
parse_paper_options "lexicon microphone" "$@"
[[ $microphone == ihm ]] || figures=$recipe/paper_$microphone.tsv

prepare() {
  need_lexicon
  lhuc-prepare ami --root "$corpus" --out "$data" --lexicon "$lexicon" --microphone "$microphone" --keep-going
}

run_paper_stages
fmllr_stage fmllr

if stage 6 cnn; then
  train cnn model=cnn
  adapt cnn cnn_lhuc
  train cnn_sat model=cnn "${sat[@]}"
  adapt cnn_sat cnn_sat_lhuc
fi

if stage 7 one_shot; then # scales of each speaker's first meeting (a quarter of the speech), used in the others
  adapt cnn cnn_one_shot protocol=enrolment protocol.fraction=0.25
fi

table_stage
