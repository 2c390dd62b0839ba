#!/usr/bin/env bash
# Read sentences with noise and through other microphones: SI, LHUC and SAT-LHUC, as in table XIII of the paper.
#
#   bash recipes/aurora4/run.sh --corpus DIR --lexicon FILE    DIR holds lists/, the speech and WSJ0's *.dot
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
preset=aurora4 sets="test"
parse_paper_options "lexicon" "$@"

prepare() {
  need_lexicon
  lhuc-prepare aurora4 --root "$corpus" --out "$data" --lexicon "$lexicon" --keep-going
}

run_paper_stages
