#!/usr/bin/env bash
# Meetings through headsets or one distant microphone: SI, LHUC and SAT-LHUC beside tables V and VIII of the paper.
#
#   bash recipes/ami/run.sh --corpus DIR --lexicon FILE [--microphone sdm] [model=cnn]
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
preset=ami sets="dev test" microphone=ihm
parse_paper_options "lexicon microphone" "$@"

prepare() {
  need_lexicon
  lhuc-prepare ami --root "$corpus" --out "$data" --lexicon "$lexicon" --microphone "$microphone" --keep-going
}

run_paper_stages
