# The paper's rows with fMLLR: networks that learn from features which are transformed for each speaker, LHUC or
# SAT-LHUC on top. A run.sh reads it after paper.sh, and calls fmllr_stage after run_paper_stages with the names of its
# networks, fmllr and fmllr_sat; stages of its own may call adapt_transformed.
# shellcheck shell=bash disable=SC2154

shared_stages+=("$root/recipes/paper_fmllr.sh")
transformed=(features.kind=mfcc features.delta_order=2) # what the GMM sees, too; a run.sh may say otherwise

fmllr_stage() { # networks
  local network scales
  if stage 5 fmllr; then # transforms from the words of the network that saw features as they are
    for network in "$@"; do
      scales=()
      [[ $network != *_sat ]] || scales=("${sat[@]}")
      train "$network" ${transformed[@]+"${transformed[@]}"} fmllr=sat ${scales[@]+"${scales[@]}"}
      adapt_transformed "$network" si
    done
  fi
}

adapt_transformed() { # network of transformed features, network of features as they are: whose words, then LHUC on top
  local set
  for set in $sets; do
    lhuc-fmllr --model "$exp/$1" --data "$data/$set" --text "$exp/${2}_lhuc/$set/si" \
      --out "$exp/$1_transforms/$set" experiment="$preset" ${transformed[@]+"${transformed[@]}"} "${overrides[@]}"
  done
  adapt "$1" "$1_lhuc" ${transformed[@]+"${transformed[@]}"}
}
