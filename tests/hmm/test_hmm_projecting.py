"""A GMM of projected features, on toy speech of the usual four values a frame among values that say nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhuc_asr.errors import DataError, ModelError
from lhuc_asr.hmm.flat_start import train_gmm
from lhuc_asr.hmm.gmm_system import GmmConfig, GmmSystem
from lhuc_asr.hmm.gmm_training import Corpus
from lhuc_asr.hmm.mixtures.lda import LdaConfig
from lhuc_asr.hmm.projecting import ProjectedGmm, train_projected
from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.lang.lexicon import Lexicon

SMALL = GmmConfig(
    num_leaves=18, min_occupancy=20.0, num_gaussians=18, mono_gaussians=18, mono_iterations=4,
    triphone_rounds=1, triphone_iterations=5, realign_every=3,
)  # fmt: skip
LDA = LdaConfig(dim=4, context=1, mllt_passes=[1, 2])
DIM = 7


@pytest.fixture
def hidden(toy_speech: Any, lexicon: Lexicon) -> tuple[Corpus, GmmSystem]:
    """Speech whose four values were mixed with three of noise, and a GMM that has aligned it, of what was mixed."""
    generator = np.random.default_rng(5)
    mixing = generator.normal(size=(DIM, DIM))
    feats = {
        name: (np.column_stack([matrix, generator.normal(0, 3, (len(matrix), 3))]) @ mixing.T).astype(np.float32)
        for name, matrix in toy_speech.feats.items()
    }
    begin = train_gmm(toy_speech.feats, toy_speech.transcripts, lexicon, SMALL)
    return Corpus(feats, toy_speech.transcripts, lexicon), begin


def share_of_right_phones(found: ProjectedGmm, toy_speech: Any, lexicon: Lexicon) -> float:
    pairs = [
        (lexicon.phones[phone - 1], name)
        for key, path in found.system.alignments.alignments.items()
        for phone, name in zip(found.system.hmm.phones_of(path), toy_speech.phones[key], strict=True)
    ]
    return sum(one == other for one, other in pairs) / len(pairs)


def log_likelihood(found: ProjectedGmm, corpus: Corpus, first: ProjectedGmm) -> float:
    """Nats a frame of speech, as features of another projection to the same subspace have it."""
    total = num_frames = 0.0
    for name, path in found.system.alignments.alignments.items():
        spoken = found.system.hmm.phones_of(path) != SILENCE
        likes = found.system.gmm.log_likes(found.projection.apply(corpus.feats[name]))
        total += likes[np.arange(len(path)), found.system.hmm.pdfs(path)][spoken].sum()
        num_frames += spoken.sum()
    turn = np.linalg.lstsq(first.projection.matrix.T, found.projection.matrix.T, rcond=None)[0]
    return total / num_frames + np.linalg.slogdet(turn)[1]


def test_phones_are_found_by_what_is_projected(hidden: Any, toy_speech: Any, lexicon: Lexicon) -> None:
    corpus, begin = hidden
    found = train_projected(begin, corpus, LDA, SMALL)
    assert share_of_right_phones(found, toy_speech, lexicon) > 0.95
    assert found.system.alignments.failed == {}
    assert (found.projection.dim, found.projection.feat_dim) == (4, DIM) and found.system.gmm.feat_dim == 4


def test_speech_has_mean_0_and_variance_1_after_every_turn(hidden: Any) -> None:
    corpus, begin = hidden
    for passes in ([], [1], [1, 2, 4]):
        found = train_projected(begin, corpus, replace(LDA, mllt_passes=passes), SMALL)
        spoken = [
            found.projection.apply(corpus.feats[name])[begin.hmm.phones_of(path) != SILENCE]
            for name, path in begin.alignments.alignments.items()
        ]
        frames = np.concatenate(spoken).astype(np.float64)
        np.testing.assert_allclose(frames.mean(axis=0), 0.0, atol=1e-3)
        np.testing.assert_allclose(frames.std(axis=0), 1.0, atol=1e-3)


def test_silence_has_no_say(hidden: Any) -> None:
    corpus, begin = hidden
    generator, other = np.random.default_rng(8), {}
    for name, path in begin.alignments.alignments.items():
        silent = (begin.hmm.phones_of(path) == SILENCE)[:, None]
        other[name] = np.where(silent, generator.normal(0, 9, (1, DIM)), corpus.feats[name]).astype(np.float32)
    once = replace(SMALL, triphone_iterations=2, realign_every=9)
    lda = replace(LDA, context=0, mllt_passes=[1])  # without neighbours, which may be silent
    found, heard = (train_projected(begin, replace(corpus, feats=one), lda, once) for one in (corpus.feats, other))
    np.testing.assert_allclose(found.projection.matrix, heard.projection.matrix, rtol=1e-4, atol=1e-5)


def test_turns_make_the_same_directions_more_likely(hidden: Any) -> None:
    corpus, begin = hidden
    alone = train_projected(begin, corpus, replace(LDA, mllt_passes=[]), SMALL)
    both = train_projected(begin, corpus, LDA, SMALL)
    space = alone.projection.matrix[:, :-1]
    found = np.linalg.lstsq(space.T, both.projection.matrix[:, :-1].T, rcond=None)[0]
    np.testing.assert_allclose(found.T @ space, both.projection.matrix[:, :-1], atol=1e-6)
    assert log_likelihood(both, corpus, alone) > log_likelihood(alone, corpus, alone) + 0.02


def test_neither_the_number_of_processes_nor_a_repetition_changes_anything(hidden: Any) -> None:
    corpus, begin = hidden
    found = [train_projected(begin, replace(corpus, num_jobs=2), LDA, SMALL) for _ in range(2)]
    assert found[0].projection.sha256 == found[1].projection.sha256
    alone = train_projected(begin, corpus, LDA, SMALL)
    np.testing.assert_allclose(alone.projection.matrix, found[0].projection.matrix, rtol=1e-5, atol=1e-6)


def test_it_survives_the_round_trip(hidden: Any, tmp_path: Path) -> None:
    corpus, begin = hidden
    found = train_projected(begin, corpus, LDA, SMALL)
    found.save(tmp_path)
    again = ProjectedGmm.load(tmp_path)
    assert again.projection.sha256 == found.projection.sha256
    np.testing.assert_array_equal(again.system.gmm.means, found.system.gmm.means)
    (tmp_path / "projection.safetensors").unlink()
    with pytest.raises(ModelError, match=r"projection\.safetensors"):
        ProjectedGmm.load(tmp_path)


def test_speech_that_lies_in_few_directions_is_an_error(hidden: Any) -> None:
    corpus, begin = hidden
    flat = replace(corpus, feats={name: np.repeat(matrix[:, :1], DIM, 1) for name, matrix in corpus.feats.items()})
    with pytest.raises(
        DataError, match=r"does not determine a projection to 4 values \(lda\.dim\): the frames are too few"
    ):
        train_projected(begin, flat, LDA, SMALL)
