"""Switchboard-1 and the HUB5 evaluation of 2000: telephone conversations, 8 kHz (LDC97S62, LDC2002S09, LDC2002T43).

The folder holds the four packages side by side: ``LDC97S62/``, ``swb_ms98_transcriptions/`` (Mississippi State's),
``LDC2002S09/hub5e_00/english/`` and ``LDC2002T43/reference/english/``. A speaker is a side of a conversation. There is
no lexicon: give one with ``--lexicon``.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from lhuc_asr.data.corpora.from_lhotse import found_by_lhotse, inspected, need_folders
from lhuc_asr.data.corpora.preparation import (
    UNKNOWN_WORD,
    Prepared,
    PrepareOptions,
    check_config,
    need_root,
    part,
    read_lexicon_lines,
    write_sets,
)
from lhuc_asr.data.problems import Inspected
from lhuc_asr.data.splits import hold_out_speakers
from lhuc_asr.data.validation import Checked, check

DEV_FRACTION = 0.02
"""Of the training speakers; the paper's 4,000 utterances are about as many."""

SWITCHBOARD, CALLHOME = "sw_", "en_"
"""How the recordings of the two halves of the evaluation begin."""

_FOLDERS = ("LDC97S62", "swb_ms98_transcriptions", "LDC2002S09", "LDC2002T43")
_MARKUP = (
    (r"<contraction e_form=\"[^\"]*\">", ""),  # HUB5: the long form stands before the word
    (r"<[^<>]*>", " "),  # other tags, such as <b_aside>
    (r"\[laughter-([^\[\]]+)\]", r"\1"),  # a word said with laughter
    (r"\[([^\[\]/]+)/[^\[\]]+\]", r"\1"),  # a slip of the tongue / what was meant
    (r"\{(?!breath|cough|laugh|lipsmack|sneeze)([^{}\s]+)\}", r"\1"),  # a word that no dictionary has
    (r"\S*\[[^\[\]]*\]-?\S*-\S*|-\[[^\[\]]*\]\S*", f" {UNKNOWN_WORD} "),  # parts of words: th[is]-, -[th]is
    (r"\[[^\[\]]*\]|\{[^{}]*\}", " "),  # noises
    (r"\(\(\s*\)\)", f" {UNKNOWN_WORD} "),  # what nobody understood
    (r"[()%&@*]", " "),  # doubt, and marks of hesitation and names
    (r"_\d+\b", ""),  # variants: okay_1
)


def prepare(root: Path | None, out: Path, options: PrepareOptions | None = None) -> Prepared:
    """Write ``out/{train,dev,eval2000_swb,eval2000_che}``; dev are some speakers who are left out of train.

    Raises:
        DataError: the corpus is not there, or something is wrong in it.
    """
    options = options or PrepareOptions()
    root = need_root(root, out, "swbd")
    need_folders(root, "Switchboard and HUB5 2000", *_FOLDERS)
    lexicon = None if options.lexicon is None else read_lexicon_lines(options.lexicon)
    config = check_config(out, options, lexicon)
    found = {name: check(one, config) for name, one in _read(root, options).items()}
    train = found["train"]
    halves = hold_out_speakers(train.manifest, fraction=DEV_FRACTION, seed=options.seed)
    sets = {"train": part(train, halves.kept), "dev": part(train, halves.held_out)}
    sets |= {f"eval2000_{name}": _begins(found["eval2000"], prefix) for name, prefix in _HALVES.items()}
    return write_sets(sets, out, options, lexicon=lexicon)


_HALVES = {"swb": SWITCHBOARD, "che": CALLHOME}


def _read(root: Path, options: PrepareOptions) -> dict[str, Inspected]:
    from lhotse.recipes.eval2000 import prepare_eval2000
    from lhotse.recipes.switchboard import prepare_switchboard

    train = found_by_lhotse(
        lambda: prepare_switchboard(
            root / "LDC97S62", transcripts_dir=root / "swb_ms98_transcriptions", absolute_paths=True
        ),
        root,
        "Switchboard",
    )

    def clean(text: str) -> str:
        return options.normalise(clean_words(text))

    with tempfile.TemporaryDirectory() as scratch:  # lhotse wants a place for manifests that are not needed here
        test = found_by_lhotse(lambda: prepare_eval2000(root, scratch, absolute_paths=True), root, "HUB5 2000")
    return {
        name: inspected(sets, root, allow_commands=options.allow_commands, clean=clean, speaker=_side)
        for name, sets in {"train": train, "eval2000": test}.items()
    }


def _side(supervision: Any) -> str:
    """A side of a conversation; lhotse calls both sides of Switchboard alike."""
    return f"{supervision.recording_id}-{'AB'[supervision.channel]}"


def _begins(checked: Checked, prefix: str) -> Checked:
    chosen = [name for name in checked.manifest.speakers if name.startswith(prefix)]
    return part(checked, checked.manifest.of_speakers(chosen))


def clean_words(text: str) -> str:
    """The words of a transcript without its markup; what is no whole word becomes the unknown word.

    Example:
        >>> clean_words("[laughter-yeah] i th[ink]- {alrighty} [noise] okay_1")
        'yeah i <UNK> alrighty okay'
        >>> clean_words('<contraction e_form="[i=>i][ll=>will]">i will %uh {breath} (( ))')
        'i will uh <UNK>'
    """
    for pattern, replacement in _MARKUP:
        text = re.sub(pattern, replacement, text)
    return " ".join(text.split())
