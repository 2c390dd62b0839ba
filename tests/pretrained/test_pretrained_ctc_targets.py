"""Decoding and aligning CTC outputs, against all paths counted one by one and against flashlight."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import AlignmentError, ConfigError
from lhuc_asr.pretrained.ctc_targets import align, ctc_targets, greedy
from lhuc_asr.pretrained.prefix_beam import PrefixBeamSearch


def random_log_probs(seed: int, num_frames: int = 6, num_tokens: int = 4, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(1, num_frames, num_tokens, generator=generator)).log_softmax(-1)


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def all_paths(log_probs: Tensor, blank: int) -> dict[tuple[int, ...], float]:
    """Token sequence -> natural logarithm of its probability, from every path there is."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[-1]), repeat=log_probs.shape[1]):
        found[collapse(path, blank)] += math.exp(sum(float(log_probs[0, t, token]) for t, token in enumerate(path)))
    return {tokens: math.log(probability) for tokens, probability in found.items()}


@given(st.integers(0, 10**6), st.integers(0, 3))
@settings(max_examples=20)
def test_a_beam_wide_enough_finds_the_most_probable_sequences(seed: int, blank: int) -> None:
    log_probs = random_log_probs(seed, num_frames=5)
    expected = sorted(all_paths(log_probs, blank).items(), key=lambda item: -item[1])[:3]
    (found,) = PrefixBeamSearch(beam_size=10**6, num_tokens=4, num_best=3, blank=blank)(log_probs, torch.tensor([5]))
    assert [tuple(one.tokens.tolist()) for one in found] == [tokens for tokens, _ in expected]
    assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-4)


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_scores_are_the_ctc_loss(seed: int) -> None:
    log_probs = random_log_probs(seed, num_frames=6)
    ((best,),) = PrefixBeamSearch(beam_size=500)(log_probs, torch.tensor([6]))
    loss = functional.ctc_loss(
        log_probs.transpose(0, 1),
        best.tokens[None],
        torch.tensor([6]),
        torch.tensor([len(best.tokens)]),
        reduction="sum",
    )
    assert best.score == pytest.approx(-loss.item(), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_wide_enough_agrees_with_flashlight(seed: int) -> None:
    pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text is not installed")
    log_probs = random_log_probs(seed, num_frames=7, num_tokens=5)
    decoder = import_torchaudio("models.decoder").ctc_decoder(
        lexicon=None,
        tokens=[str(token) for token in range(5)],
        nbest=3,
        beam_size=10**5,
        beam_threshold=1000,
        blank_token="0",
        sil_token="0",
        unk_word="0",
        log_add=True,
    )
    expected = decoder(log_probs, torch.tensor([7]))[0]
    (found,) = PrefixBeamSearch(beam_size=10**5, num_tokens=10, num_best=3)(log_probs, torch.tensor([7]))
    assert [one.tokens.tolist() for one in found] == [one.tokens.tolist() for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-3)
    (target,) = ctc_targets(log_probs, torch.tensor([7]), decoder=decoder)
    assert target.tokens.tolist() == expected[0].tokens.tolist()


def test_the_beam_sums_paths_where_the_greedy_answer_is_the_best_path() -> None:
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    (by_best_path,) = ctc_targets(log_probs, torch.tensor([2]))
    (by_sum,) = ctc_targets(log_probs, torch.tensor([2]), decoder=PrefixBeamSearch())
    assert by_best_path.is_empty
    assert by_sum.tokens.tolist() == [1]


@pytest.mark.parametrize("wrong", [{"beam_size": 0}, {"num_tokens": 0}, {"num_best": 0}, {"num_best": 17}])
def test_an_impossible_beam_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="prefixes"):
        PrefixBeamSearch(**wrong)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 3))
def test_the_greedy_path_is_its_own_alignment(seed: int, num_frames: int, blank: int) -> None:
    log_probs = random_log_probs(seed, num_frames)
    (target,) = ctc_targets(log_probs, torch.tensor([num_frames]), blank=blank)
    assert target.alignment.tolist() == log_probs[0].argmax(-1).tolist()
    assert tuple(target.tokens.tolist()) == collapse(tuple(target.alignment.tolist()), blank)
    torch.testing.assert_close(target.frame_log_probs, log_probs[0].max(-1).values)
    assert target.confidence == pytest.approx(float(log_probs[0].max(-1).values.mean().exp()))


@given(st.integers(0, 10**6))
def test_an_alignment_is_the_best_path_of_its_tokens(seed: int) -> None:
    log_probs = random_log_probs(seed, num_frames=5)[0]
    tokens = (1, 1, 2)
    expected = max(
        (sum(float(log_probs[t, token]) for t, token in enumerate(path)), path)
        for path in itertools.product(range(4), repeat=5)
        if collapse(path, 0) == tokens
    )
    found = align(log_probs, torch.tensor(tokens))
    assert tuple(found.alignment.tolist()) == expected[1]
    assert float(found.frame_log_probs.sum()) == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize("decoder", [None, PrefixBeamSearch()])
def test_padding_and_batch_do_not_matter(decoder: PrefixBeamSearch | None) -> None:
    one, other = random_log_probs(1, 6), random_log_probs(2, 4)
    batch = torch.full((2, 6, 4), -0.1)
    batch[0], batch[1, :4] = one[0], other[0]
    together = ctc_targets(batch, torch.tensor([6, 4]), decoder=decoder)
    alone = [*ctc_targets(one, torch.tensor([6]), decoder=decoder)]
    alone += ctc_targets(other, torch.tensor([4]), decoder=decoder)
    for a, b in zip(together, alone, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert a.alignment.tolist() == b.alignment.tolist()


def test_only_blanks_are_an_empty_target_with_an_alignment() -> None:
    log_probs = torch.tensor([[[0.9, 0.1], [0.8, 0.2]]]).log()
    (target,) = ctc_targets(log_probs, torch.tensor([2]))
    assert (target.is_empty, target.alignment.tolist(), target.num_terms) == (True, [0, 0], 2)


def test_more_tokens_than_frames_are_refused() -> None:
    with pytest.raises(AlignmentError, match=r"3 tokens with 2 repetitions need .* the utterance has 4"):
        align(random_log_probs(1, 4)[0], torch.tensor([1, 1, 1]))


def test_a_decoder_without_an_answer_says_that_nobody_spoke() -> None:
    (target,) = ctc_targets(random_log_probs(1), torch.tensor([6]), decoder=lambda log_probs, lens: [[]])
    assert target.is_empty


def test_greedy_keeps_a_token_on_both_sides_of_a_blank() -> None:
    path = functional.one_hot(torch.tensor([1, 1, 0, 1, 2, 2, 0]), 3).float().log_softmax(-1)
    assert greedy(path).tolist() == [1, 1, 2]
