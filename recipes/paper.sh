# What the recipes of the paper's corpora share: a speaker-independent network, LHUC on it, SAT-LHUC, and a table of all
# of them beside the paper's figures. A run.sh reads:
#
#   source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
#   source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
#   preset=swbd sets="eval2000_swb eval2000_che"     # the experiment, and what is adapted to
#   parse_paper_options "lexicon" "$@"               # options besides --corpus, --text, --mix-text or --arpa, and --sets
#
#   prepare() { lhuc-prepare swbd --root "$corpus" --out "$data" --lexicon "$lexicon"; }
#   run_paper_stages                                 # 1 to 4; stages of its own may follow
#   table_stage
# shellcheck shell=bash disable=SC2154

corpus="" text="" mix_text="" arpa="" lexicon=""
shared_stages=("$root/recipes/paper.sh")
figures=$recipe/paper.tsv
sat=(sat=frame sat.share=0.6) # 60 % of the frames through the row of nobody in particular, as in the paper

parse_paper_options() { # own options, then the command line
  local own=$1
  shift
  parse_options "corpus text mix-text arpa sets $own" "$@"
  [[ -z $text$mix_text || -z $arpa ]] || fail "--text and --arpa: give one language model"
  set_up
}

train() { # name, settings; what goes on from a finished model keeps its language model
  local language_model=()
  [[ "${*:2}" == *criterion.start=* ]] || language_model=(${text:+--text "$text"} ${mix_text:+--mix-text "$mix_text"} ${arpa:+--arpa "$arpa"})
  lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --dev "$data/dev" --out "$exp/$1" \
    ${language_model[@]+"${language_model[@]}"} experiment="$preset" "${@:2}" "${overrides[@]}"
}

adapt() { # network, name of the run, settings: decode, adapt to every speaker and decode again
  local set transforms
  for set in $sets; do
    transforms=()
    [[ ! -d $exp/$1_transforms/$set ]] || transforms=(--transforms "$exp/$1_transforms/$set")
    lhuc-adapt --model "$exp/$1" --data "$data/$set" --all-speakers --out "$exp/$2/$set" \
      --first-pass "$exp/$1_first/$set" ${transforms[@]+"${transforms[@]}"} \
      experiment="$preset" protocol=two_pass "${@:3}" "${overrides[@]}"
  done
}

need_lexicon() { # a file that the corpus does not have
  [[ -n $lexicon ]] || fail "--lexicon FILE gives pronunciations, one 'WORD PHONE PHONE ...' a line: the corpus has none"
}

run_paper_stages() {
  if stage 1 prepare; then
    [[ -n $corpus ]] || fail "--corpus DIR says where the corpus lies (see README.md)"
    prepare
  fi

  if stage 2 train; then
    train si
  fi

  if stage 3 adapt; then
    adapt si si_lhuc
  fi

  if stage 4 sat; then
    train sat "${sat[@]}"
    adapt sat sat_lhuc
  fi
}

table_stage() {
  if stage 9 table; then
    python "$root/recipes/paper_table.py" --paper "$figures" --exp "$exp"
  fi
}
