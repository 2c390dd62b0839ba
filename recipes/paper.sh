# What the recipes of the paper's corpora share: a speaker-independent network, LHUC on it, SAT-LHUC, and a table of both
# beside the paper's figures. A run.sh reads recipes/stages.sh first, says `preset=NAME`, and calls:
#
#   train si                            the network in $exp/si
#   train sat sat=frame sat.share=0.6   another one, with further settings
#   adapt si test                       decode, adapt to every speaker and decode again: $exp/si_lhuc/test
#   table                               all of that, beside $recipe/paper.tsv
# shellcheck shell=bash disable=SC2154

language_model=() # more arguments of lhuc-train, such as --text FILE

train() { # name, settings
  lhuc-train --data "$data/train" --lexicon "$data/lexicon.txt" --dev "$data/dev" --out "$exp/$1" \
    ${language_model[@]+"${language_model[@]}"} experiment="$preset" "${@:2}" "${overrides[@]}"
}

adapt() { # name of the network, set, settings
  lhuc-adapt --model "$exp/$1" --data "$data/$2" --all-speakers --out "$exp/$1_lhuc/$2" --first-pass "$exp/$1_first/$2" \
    experiment="$preset" protocol=two_pass "${@:3}" "${overrides[@]}"
}

table() { python "$root/recipes/paper_table.py" --paper "$recipe/paper.tsv" --exp "$exp"; }

need_lexicon() { # a file that the corpus does not have
  [[ -n $lexicon ]] || fail "--lexicon FILE gives pronunciations, one 'WORD PHONE PHONE ...' a line: the corpus has none"
}
