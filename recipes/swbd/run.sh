#!/usr/bin/env bash
# Telephone conversations: the rows of table XII of the paper (Switchboard-1, HUB5 2000).
#
#   bash recipes/swbd/run.sh --corpus DIR --lexicon FILE       DIR holds the packages LDC97S62 and so on
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper_fmllr.sh"
preset=swbd sets="eval2000_swb eval2000_che"
transformed=() # fMLLR goes on top of LDA and MLLT
parse_paper_options "lexicon" "$@"

prepare() {
  need_lexicon
  lhuc-prepare swbd --root "$corpus" --out "$data" --lexicon "$lexicon" --keep-going
}

run_paper_stages
fmllr_stage fmllr fmllr_sat
table_stage
