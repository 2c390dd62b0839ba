"""CTC sums over exactly the alignments that spell the labels, and tells whose transcripts cannot be learnt."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch
from torch import Tensor

from lhuc_asr.errors import AlignmentError, DataError
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.training.criteria.ctc import character_labels, check_lengths, ctc_objective, frames_needed, phone_labels

LABELS = [torch.tensor([1, 2]), torch.tensor([2, 2]), torch.tensor([1])]
LENS = torch.tensor([5, 4, 3])
NAMES = ["a", "b", "c"]


def logits() -> Tensor:
    return torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in groupby(path) if label]


def by_enumeration(log_probs: Tensor) -> Tensor:
    """Every path of every utterance, one by one."""
    total = torch.zeros((), dtype=torch.float64)
    for one, length, labels in zip(log_probs, LENS.tolist(), LABELS, strict=True):
        paths = [path for path in product(range(3), repeat=length) if collapsed(path) == labels.tolist()]
        scores = torch.stack([one[torch.arange(length), list(path)].sum() for path in paths])
        total = total - scores.logsumexp(0)
    return total / LENS.sum()


def test_the_objective_sums_over_all_alignments() -> None:
    ours, theirs = logits().requires_grad_(), logits().requires_grad_()
    value = ctc_objective(ours.log_softmax(2), LENS, LABELS, NAMES)
    expected = by_enumeration(theirs.log_softmax(2))
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    value.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_padding_is_not_looked_at() -> None:
    given = logits()
    changed = given.clone()
    changed[1, 4:], changed[2, 3:] = 50.0, -50.0
    values = [ctc_objective(one.log_softmax(2), LENS, LABELS, NAMES) for one in (given, changed)]
    assert torch.equal(*values)


def test_order_and_company_do_not_matter() -> None:
    log_probs = logits().log_softmax(2)
    together = ctc_objective(log_probs, LENS, LABELS, NAMES) * LENS.sum()
    alone = [
        ctc_objective(log_probs[row : row + 1, :length], LENS[row : row + 1], [LABELS[row]], [NAMES[row]]) * length
        for row, length in enumerate(LENS.tolist())
    ]
    torch.testing.assert_close(together, torch.stack(alone).sum())


def test_who_is_too_short_is_told_by_name() -> None:
    assert frames_needed(torch.tensor([2, 2, 2])) == 5
    check_lengths({"b": torch.tensor([2, 2])}, {"b": 3})
    with pytest.raises(AlignmentError, match=r"'b' \(2 frames, 3 needed\)"):
        check_lengths({"a": torch.tensor([1, 2]), "b": torch.tensor([2, 2])}, {"a": 2, "b": 2})
    with pytest.raises(AlignmentError, match="'b'"):
        ctc_objective(logits().log_softmax(2), torch.tensor([5, 2, 3]), LABELS, NAMES)


def test_labels_that_the_network_lacks_are_refused() -> None:
    for labels in (torch.tensor([3]), torch.tensor([0, 1])):
        with pytest.raises(DataError, match=r"1 to 2.*'b'"):
            ctc_objective(logits().log_softmax(2), LENS, [LABELS[0], labels, LABELS[2]], NAMES)


def test_an_objective_that_is_not_finite_names_the_utterance() -> None:
    broken = logits()
    broken[1, 0, 0] = float("nan")
    with pytest.raises(DataError, match=r"not finite for 'b'$"):
        ctc_objective(broken.log_softmax(2), LENS, LABELS, NAMES)


def test_phones_spell_words_by_their_first_pronunciation() -> None:
    labels = phone_labels(Lexicon({"A": (("AH",), ("EY",)), "BE": (("B", "IY"),)}))
    assert labels.symbols[0] == "<blank>" and "SIL" not in labels.symbols
    assert [labels.symbols[number] for number in labels.encode("A BE ZEBRA").tolist()] == ["AH", "B", "IY", "SPN"]


def test_characters_spell_words_with_spaces_between() -> None:
    labels = character_labels(["IT'S", "NO JOB"])
    written = labels.encode("  SO  IT'S ")
    assert [labels.symbols[number] for number in written.tolist()] == ["S", "O", "<space>", "I", "T", "'", "S"]
    with pytest.raises(DataError, match="there are no characters"):
        character_labels(["", " "])


def test_transcripts_that_cannot_be_labelled_are_refused() -> None:
    labels = character_labels(["AB"])
    assert labels.encode("BA").tolist() == [3, 2]
    with pytest.raises(DataError, match="the transcript is empty"):
        labels.encode("")
    with pytest.raises(DataError, match="'AXB' needs labels that the model does not have: 'X'"):
        labels.encode("AXB")
