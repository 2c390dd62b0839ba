"""Layouts: the grammar, and many speakers at once as one by one."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.layout import Layout

LETTERS = [
    "BH",
    "BTH",
    "TBH",
    "BHT",
    "BHTT",
    "BHHT",
    "BTHT",
    "BHTH",
    "TTBH",
    "NH",
    "NHT",
    "NHHT",
    "NTH",
    "*H",
    "*HT",
    "*HHT",
]


@pytest.mark.parametrize("letters", LETTERS)
def test_what_is_a_layout(letters):
    assert Layout(letters).num_unit_dims == letters.count("H")
    assert Layout(letters).tells_utterances_apart == ("*" not in letters)


@pytest.mark.parametrize(
    "letters", ["", "B", "HB", "BT", "BBH", "BNH", "NBH", "BHHH", "B*H", "*BH", "bth", "BTHX", "TNH"]
)
def test_what_is_none_is_told_with_examples(letters):
    with pytest.raises(SiteError, match=r"is no layout: write B .*'BTH', 'TBH', 'BHT'"):
        Layout(letters)


@st.composite
def batches(draw):
    layout = Layout(draw(st.sampled_from([letters for letters in LETTERS if "*" not in letters])))
    num_utterances = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 1000))
    torch.manual_seed(seed)
    shape, units = [], []
    for letter in layout.letters:
        size = draw(st.integers(1, 4)) * (num_utterances if letter == "N" else 1)
        shape.append(num_utterances if letter == "B" else size)
        if letter == "H":
            units.append(size)
    return layout, torch.randn(shape), torch.rand(num_utterances, *units)


@given(batches())
def test_all_rows_at_once_are_each_row_alone(batch):
    layout, output, factors = batch
    together = layout.scale_rows(output, factors)
    assert together.shape == output.shape
    dim = layout.letters.index("B" if "B" in layout.letters else "N")
    parts = output.chunk(len(factors), dim)
    assert len(parts) == len(factors)
    alone = [layout.scale(part, factor) for part, factor in zip(parts, factors, strict=True)]
    assert torch.equal(together, torch.cat(alone, dim))


@given(batches())
def test_units_are_found_and_equal_factors_are_one(batch):
    layout, output, factors = batch
    assert layout.units(output.shape) == factors.shape[1:]
    assert layout.has_units(output.shape, factors.shape[1:])
    assert torch.equal(layout.scale_rows(output, factors[:1].expand_as(factors)), layout.scale(output, factors[0]))
    assert torch.equal(layout.scale(output, torch.ones_like(factors[0])), output)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 1000))
def test_utterances_of_any_length_one_after_the_other(lengths, seed):
    torch.manual_seed(seed)
    output, factors = torch.randn(sum(lengths), 3), torch.rand(len(lengths), 3)
    together = Layout("NH").scale_rows(output, factors, num_rows=lengths)
    alone = [part * factor for part, factor in zip(output.split(lengths), factors, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("letters", "shape", "num_rows", "reason"),
    [
        ("BTH", (3, 5, 4), None, r"2 speakers were named.*shape \(3, 5, 4\).*has not that many utterances"),
        ("BTH", (2, 4), None, "has not that many utterances"),
        ("NH", (2, 5, 4), None, "has not that many utterances"),
        ("*H", (2, 5, 4), None, "does not tell the 2 utterances of the batch apart: give find_sites an example"),
        ("NH", (5, 4), None, "5 rows cannot be divided evenly among 2 utterances: say how many rows each has"),
        ("NH", (5, 4), [2, 2], "2 utterances of 4 rows in all were announced for 2 speakers, the layer gives 5"),
        ("NH", (5, 4), [2, 2, 1], "3 utterances of 5 rows"),
    ],
)
def test_what_cannot_be_divided_is_refused(letters, shape, num_rows, reason):
    with pytest.raises(SiteError, match=reason):
        Layout(letters).scale_rows(torch.ones(shape), torch.ones(2, 4), num_rows)


def test_one_speaker_needs_no_layout():
    output, factors = torch.randn(2, 5, 4), torch.rand(1, 4)
    assert torch.equal(Layout("*H").scale_rows(output, factors), output * factors[0])


@given(st.sampled_from(LETTERS), st.lists(st.integers(1, 3), max_size=5), st.lists(st.integers(1, 3), max_size=3))
def test_an_output_has_the_units_that_it_has_and_no_others(letters, shape, units):
    assert Layout(letters).has_units(shape, tuple(units)) == (Layout(letters).units(shape) == tuple(units))


@pytest.mark.parametrize("letters", LETTERS)
def test_a_layout_is_its_letters(letters):
    assert Layout(letters) == pickle.loads(pickle.dumps(Layout(letters)))
    assert repr(Layout(letters)) == f"Layout(letters={letters!r})"


def test_too_few_dimensions_have_no_units():
    assert Layout("BHTT").units((4, 5)) == ()
