from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhuc_asr.errors import AlignmentError, ConfigError
from lhuc_asr.hmm.flat_start import train_gmm
from lhuc_asr.hmm.gmm_system import GmmConfig, GmmSystem
from lhuc_asr.hmm.gmm_training import equal_alignment
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.lexicon import Lexicon

SMALL = GmmConfig(
    num_leaves=24, min_occupancy=20.0, min_gain=20.0, num_gaussians=40, mono_gaussians=30, mono_iterations=8,
    triphone_rounds=1, triphone_iterations=5, realign_every=2,
)  # fmt: skip


def test_phones_are_found_without_any_alignment(toy_speech: Any, lexicon: Lexicon) -> None:
    system = train_gmm(toy_speech.feats, toy_speech.transcripts, lexicon, SMALL, num_jobs=1)
    assert system.alignments.failed == {}
    right = total = 0
    for key, alignment in system.alignments.alignments.items():
        named = [lexicon.phones[phone - 1] for phone in system.hmm.phones_of(alignment)]
        right += sum(a == b for a, b in zip(named, toy_speech.phones[key], strict=True))
        total += len(named)
    assert right / total > 0.95
    assert system.hmm.tree.is_context_dependent and system.hmm.num_pdfs > 18
    after_b, after_c = (system.hmm.tree.pdf(left, 3, 4, state=0) for left in (4, 5))
    assert after_b != after_c


def test_a_repetition_gives_the_same_model(toy_speech: Any, lexicon: Lexicon) -> None:
    brief = replace(SMALL, mono_iterations=3, triphone_iterations=2)
    one, two = (train_gmm(toy_speech.feats, toy_speech.transcripts, lexicon, brief, num_jobs=2) for _ in range(2))
    np.testing.assert_array_equal(one.gmm.means, two.gmm.means)
    assert one.hmm.tree.roots == two.hmm.tree.roots


def test_utterances_that_cannot_be_aligned_are_reported(toy_speech: Any, lexicon: Lexicon, tmp_path: Path) -> None:
    feats = {**toy_speech.feats, "short": np.zeros((4, 4), np.float32), "mute": toy_speech.feats["u00"]}
    transcripts = {**toy_speech.transcripts, "short": "AB AC"}
    system = train_gmm(feats, transcripts, lexicon, SMALL)
    assert system.alignments.failed == {"mute": "no transcript", "short": "4 frames, its words need 12"}
    system.save(tmp_path)
    again = GmmSystem.load(tmp_path)
    np.testing.assert_array_equal(again.gmm.variances, system.gmm.variances)
    np.testing.assert_array_equal(again.alignments.alignments["u00"], system.alignments.alignments["u00"])
    assert again.alignments.failed == system.alignments.failed and again.hmm.num_pdfs == system.hmm.num_pdfs


def test_speech_too_short_for_any_words_is_an_error(lexicon: Lexicon) -> None:
    with pytest.raises(AlignmentError, match="none of the 1 utterances"):
        train_gmm({"u": np.zeros((2, 4), np.float32)}, {"u": "AB"}, lexicon, SMALL)


def test_equal_parts() -> None:
    hmm = HmmModel.monophone(("SIL", "SPN", "A"))
    alignment = equal_alignment(hmm, [1, 3], 12)
    assert alignment is not None
    assert hmm.pdfs(alignment).tolist() == [0, 0, 1, 1, 2, 2, 6, 6, 7, 7, 8, 8]
    assert (~hmm.transitions.is_self_loop[alignment]).sum() == 6
    assert equal_alignment(hmm, [1, 3], 5) is None


@pytest.mark.parametrize("name", ["num_leaves", "num_gaussians", "triphone_rounds"])
def test_bad_settings_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        GmmConfig(**{name: 0})
