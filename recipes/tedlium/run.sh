#!/usr/bin/env bash
# Talks of the TED conference: the rows of tables II, III, IV, VI and X of the paper (TED-LIUM, OpenSLR 7, 19, 51).
#
#   bash recipes/tedlium/run.sh --corpus DIR                 DIR: TEDLIUM_release1, 2 or -3, as unpacked
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper_fmllr.sh"
preset=tedlium sets=""
parse_paper_options "" "$@"
asked=$sets

find_sets() { # all that were prepared, where nobody asked for some of them
  [[ -z $asked ]] || return 0
  sets="dev test"
  for name in tst2011 tst2013; do [[ ! -d $data/$name ]] || sets+=" $name"; done
}

prepare() {
  lhuc-prepare tedlium --root "$corpus" --out "$data"
  find_sets
}

find_sets
run_paper_stages
fmllr_stage fmllr fmllr_sat

if stage 6 smbr; then # sequence training; the networks are adapted by the cross-entropy of frames all the same
  train smbr criterion=smbr criterion.start="$exp/si"
  adapt smbr smbr_lhuc
  train smbr_fmllr "${transformed[@]}" fmllr=sat criterion=smbr criterion.start="$exp/fmllr"
  adapt_transformed smbr_fmllr smbr
fi

if stage 7 amplitudes; then # beside exp, which is si_lhuc, on the one set that table II has
  for amplitude in identity sigmoid2 relu; do sets=test adapt si "si_$amplitude" lhuc.amplitude=$amplitude; done
fi

if stage 8 routing; then # half of the speakers, of the utterances or of the frames through the row of nobody in particular
  for routing in speaker segment frame; do
    train "sat_$routing" sat=$routing sat.share=0.5
    adapt "sat_$routing" "sat_${routing}_lhuc"
  done
fi

table_stage
