"""Speaker-adaptive training on toy speech of three people, each of whom bends the feature space in a way of his own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhuc_asr.features.fmllr import SpeakerTransform
from lhuc_asr.hmm.alignment import AlignConfig
from lhuc_asr.hmm.flat_start import train_gmm
from lhuc_asr.hmm.gmm_system import GmmConfig, GmmSystem
from lhuc_asr.hmm.gmm_training import Corpus
from lhuc_asr.hmm.mixtures.fmllr import FmllrConfig
from lhuc_asr.hmm.speaker_adaptive import (
    SpeakerAdaptiveGmm,
    train_speaker_adaptive,
    transforms_of_aligned,
    transforms_of_speech,
)
from lhuc_asr.lang.lexicon import Lexicon

SMALL = GmmConfig(
    num_leaves=18, min_occupancy=20.0, num_gaussians=18, mono_gaussians=18, mono_iterations=4,
    triphone_rounds=1, triphone_iterations=2,
)  # fmt: skip
CONFIG = FmllrConfig(sat_rounds=2, min_frames=200)


@pytest.fixture
def three_people(toy_speech: Any, lexicon: Lexicon) -> tuple[Corpus, dict[str, str], GmmSystem]:
    """Their speech, who says what, and a GMM of it."""
    generator, number_of = np.random.default_rng(7), {key: n % 3 for n, key in enumerate(toy_speech.feats)}
    bent = [np.eye(4, 5) + generator.uniform(-0.25, 0.25, (4, 5)) for _ in range(3)]
    feats = {key: SpeakerTransform(bent[number_of[key]]).apply(x) for key, x in toy_speech.feats.items()}
    speaker_of = {key: f"s{number}" for key, number in number_of.items()}
    begin = train_gmm(feats, toy_speech.transcripts, lexicon, SMALL)
    return Corpus(feats, toy_speech.transcripts, lexicon), speaker_of, begin


def test_rounds_make_speech_more_likely_than_features_as_they_are(three_people: Any) -> None:
    corpus, speaker_of, begin = three_people
    done = train_speaker_adaptive(begin, corpus, speaker_of, CONFIG, AlignConfig())
    shares = {who: sum(len(corpus.feats[u]) for u, own in speaker_of.items() if own == who) for who in done.transforms}
    gained = sum(shares[who] * transform.log_determinant for who, transform in done.transforms.items())
    total = done.alignments.log_like_per_frame + gained / sum(shares.values())
    assert total > begin.alignments.log_like_per_frame + 0.1
    assert done.model.hmm.tree.roots == begin.hmm.tree.roots and not done.transforms.unchanged


def test_new_speech_of_a_known_voice_gets_nearly_the_same_transform(three_people: Any, tmp_path: Path) -> None:
    corpus, speaker_of, begin = three_people
    done = train_speaker_adaptive(begin, corpus, speaker_of, CONFIG, AlignConfig())
    done.model.save(tmp_path)
    again = transforms_of_speech(SpeakerAdaptiveGmm.load(tmp_path), corpus, speaker_of, CONFIG)
    for who in ("s0", "s1", "s2"):
        np.testing.assert_allclose(again[who].matrix, done.transforms[who].matrix, atol=0.1)


def test_speech_that_was_bent_again_is_bent_back_by_its_own_transform(three_people: Any) -> None:
    corpus, speaker_of, begin = three_people
    done = train_speaker_adaptive(begin, corpus, speaker_of, CONFIG, AlignConfig())
    bent = SpeakerTransform(np.eye(4, 5) + np.random.default_rng(3).uniform(-0.3, 0.3, (4, 5)))
    again = replace(corpus, feats={name: bent.apply(matrix) for name, matrix in corpus.feats.items()})
    found = transforms_of_aligned(done.model, again, done.alignments, speaker_of, CONFIG)
    assert not found.unchanged
    for name, who in speaker_of.items():
        seen, before = (one.apply(of.feats[name]) for one, of in ((found[who], again), (done.transforms[who], corpus)))
        np.testing.assert_allclose(seen, before, atol=0.05)


def test_who_says_too_little_or_nothing_keeps_his_features(three_people: Any) -> None:
    corpus, speaker_of, begin = three_people
    model = SpeakerAdaptiveGmm(begin.hmm, begin.gmm, begin.gmm)
    few = corpus.of([name for name, who in speaker_of.items() if who == "s1"][:1])
    found = transforms_of_speech(model, few, speaker_of, replace(CONFIG, num_estimates=1))
    assert [*found] == ["s0", "s1", "s2"]
    assert found.unchanged["s0"] == "0 aligned frames, 200 needed" and "s1" in found.unchanged
    np.testing.assert_array_equal(found["s0"].matrix, np.eye(4, 5))


def test_the_number_of_processes_changes_nothing(three_people: Any) -> None:
    corpus, speaker_of, begin = three_people
    model = SpeakerAdaptiveGmm(begin.hmm, begin.gmm, begin.gmm)
    one = transforms_of_speech(model, corpus, speaker_of, CONFIG)
    two = transforms_of_speech(model, replace(corpus, num_jobs=2), speaker_of, CONFIG)
    assert one.sha256 == two.sha256
