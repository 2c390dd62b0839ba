from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.hmm.alignment import AlignConfig, AlignmentSet, ForcedAligner
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.viterbi import best_path
from lhuc_asr.lang.lexicon import Lexicon


def chain_of(hmm: HmmModel, phones: list[int]) -> list[int]:
    """Transition states of a row of phones in context."""
    windows = zip([0, *phones], phones, [*phones[1:], 0], strict=False)
    return [int(state) for left, centre, right in windows for state in hmm.transition_state_table[left, centre, right]]


def ids_of(chain: list[int], durations: np.ndarray) -> np.ndarray:
    ids = [[2 * state + 2] + [2 * state + 1] * (frames - 1) for state, frames in zip(chain, durations, strict=True)]
    return np.concatenate(ids).astype(np.int32)


def log_likes_of(hmm: HmmModel, ids: np.ndarray, *, strength: float = 50.0) -> np.ndarray:
    values = np.full((len(ids), hmm.num_pdfs), -strength, np.float32)
    values[np.arange(len(ids)), hmm.pdfs(ids)] = 0.0
    return values


@pytest.mark.parametrize(
    ("transcript", "phones"),
    [
        ("AB", [1, 3, 4, 1]),
        ("AB B", [3, 4, 4]),
        ("DAD AC", [1, 6, 3, 6, 3, 5, 1]),
        ("DAD AC", [6, 3, 6, 1, 3, 6, 5]),
        ("", [1]),
        ("XYZ AB", [1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("triphone", [False, True])
def test_a_known_state_sequence_is_recovered(
    transcript: str, phones: list[int], triphone: bool, triphones: HmmModel, lexicon: Lexicon
) -> None:
    hmm = triphones if triphone else HmmModel.monophone(lexicon.phones)
    chain = chain_of(hmm, phones)
    truth = ids_of(chain, np.random.default_rng(0).integers(1, 5, len(chain)))
    result = ForcedAligner(hmm, lexicon).align_all([("u", log_likes_of(hmm, truth))], {"u": transcript})
    assert result.failed == {} and result.log_like_per_frame == 0.0
    np.testing.assert_array_equal(hmm.pdfs(result.alignments["u"]), hmm.pdfs(truth))
    np.testing.assert_array_equal(hmm.phones_of(result.alignments["u"]), hmm.phones_of(truth))


def test_failures_are_counted_with_their_reason(triphones: HmmModel, lexicon: Lexicon) -> None:
    truth = ids_of(chain_of(triphones, [3, 4]), np.full(6, 2))
    good = log_likes_of(triphones, truth)
    aligner = ForcedAligner(triphones, lexicon)
    items = [("good", good), ("short", good[:5]), ("silent", good), ("none", good[:0])]
    result = aligner.align_all(items, {"good": "AB", "short": "AB", "none": ""})
    assert list(result.alignments) == ["good"]
    assert result.failed == {
        "short": "5 frames, its words need 6",
        "silent": "no transcript",
        "none": "0 frames, its words need 3",
    }


def test_an_utterance_of_the_fewest_frames_is_aligned(triphones: HmmModel, lexicon: Lexicon) -> None:
    truth = ids_of(chain_of(triphones, [3, 4]), np.ones(6, int))
    result = ForcedAligner(triphones, lexicon).align_all([("u", log_likes_of(triphones, truth))], {"u": "AB"})
    np.testing.assert_array_equal(result.alignments["u"], truth)


def test_a_narrow_beam_loses_words_that_were_not_said_and_the_retry_finds_them(
    triphones: HmmModel, lexicon: Lexicon
) -> None:
    likes = log_likes_of(triphones, ids_of(chain_of(triphones, [1]), np.full(3, 10)))
    narrow = AlignConfig(beam=1.0, retry_beam=2.0)
    result = ForcedAligner(triphones, lexicon, narrow).align_all([("u", likes)], {"u": "DAD"})
    assert result.failed == {"u": "no path within beam 2"}
    wide = AlignConfig(beam=1.0, retry_beam=1000.0)
    assert ForcedAligner(triphones, lexicon, wide).align_all([("u", likes)], {"u": "DAD"}).failed == {}


def test_the_path_is_the_cheapest_of_all(triphones: HmmModel, lexicon: Lexicon) -> None:
    """Against an enumeration of every pronunciation, every silence and every duration."""
    likes = np.random.default_rng(7).normal(0, 3, (11, triphones.num_pdfs)).astype(np.float32)
    aligner = ForcedAligner(triphones, lexicon)
    graph = aligner.graph("AC")
    path = best_path(graph, triphones.transitions, likes[:, graph.pdfs], self_loop_scale=0.7, beam=1e9)
    assert path is not None
    costs = []
    for middle, before, after in product([[3, 5], [3, 6, 5]], [[], [1]], [[], [1]]):
        chain = chain_of(triphones, before + middle + after)
        for cuts in combinations(range(1, 11), len(chain) - 1):
            durations = np.diff([0, *cuts, 11])
            ids = ids_of(chain, durations)
            loop = triphones.transitions.loop_probability[chain]
            moves = -0.7 * ((durations - 1) * np.log(loop) + np.log1p(-loop)).sum()
            acoustic = -likes[np.arange(11), triphones.pdfs(ids)].sum()
            costs.append(moves + acoustic + 2 * np.log(2))
    assert path.cost == pytest.approx(min(costs), abs=1e-3)


def test_jobs_do_not_change_the_result(triphones: HmmModel, lexicon: Lexicon) -> None:
    generator = np.random.default_rng(3)
    items = [(f"u{n}", generator.normal(size=(30 + n, triphones.num_pdfs)).astype(np.float32)) for n in range(6)]
    transcripts = {key: "AC DAD" for key, _ in items}
    aligner = ForcedAligner(triphones, lexicon)
    one, two = (aligner.align_all(items, transcripts, num_jobs=jobs) for jobs in (1, 2))
    assert one.log_like_per_frame == two.log_like_per_frame
    for key, alignment in one.alignments.items():
        np.testing.assert_array_equal(two.alignments[key], alignment)


def test_save_load_round_trip(tmp_path: Path) -> None:
    some = AlignmentSet({"José/1": np.array([2, 1], np.int32), "b": np.array([4], np.int32)}, {"c": "why"}, -1.5)
    some.save(tmp_path / "ali")
    again = AlignmentSet.load(tmp_path / "ali")
    assert (
        again.failed == some.failed and again.log_like_per_frame == -1.5 and list(again.alignments) == ["José/1", "b"]
    )
    np.testing.assert_array_equal(again.alignments["José/1"], [2, 1])
    AlignmentSet({}, {}, float("nan")).save(tmp_path / "empty")
    assert AlignmentSet.load(tmp_path / "empty").alignments == {}
    with pytest.raises(ModelError, match="absent"):
        AlignmentSet.load(tmp_path / "absent")


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="retry_beam"):
        AlignConfig(beam=50.0)
    with pytest.raises(ConfigError, match="silence_probability"):
        AlignConfig(silence_probability=1.0)
