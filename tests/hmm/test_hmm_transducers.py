from __future__ import annotations

from itertools import product

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.hmm.graphs.fst_arrays import FstArrays, FstBuilder
from lhuc_asr.hmm.graphs.transducers import grammar_fst, lexicon_fst, states_fst, with_self_loops
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.lexicon import Lexicon


def paths(fst: FstArrays, length: int) -> dict[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """Every (inputs, outputs) -> least cost of the paths that read at most ``length`` inputs, by enumeration."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
    outgoing: dict[int, list[int]] = {}
    for arc, source in enumerate(fst.source.tolist()):
        outgoing.setdefault(source, []).append(arc)
    stack = [(fst.start, (), (), 0.0, 0)]
    while stack:
        state, inputs, outputs, cost, num_epsilons = stack.pop()
        if np.isfinite(fst.final_cost[state]):
            key = (inputs, outputs)
            found[key] = min(found.get(key, np.inf), cost + float(fst.final_cost[state]))
        for arc in outgoing.get(state, []):
            reads = (int(fst.ilabel[arc]),) if fst.ilabel[arc] else ()
            writes = (int(fst.olabel[arc]),) if fst.olabel[arc] else ()
            idle = 0 if reads else num_epsilons + 1
            if len(inputs + reads) <= length and idle < 4:
                total = cost + float(fst.cost[arc])
                stack.append((int(fst.target[arc]), inputs + reads, outputs + writes, total, idle))
    return found


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4, st.floats(-5, 5, width=32)), max_size=12))
def test_arrays_survive_the_library(rows: list[tuple[int, int, int, int, float]]) -> None:
    builder = FstBuilder()
    for _ in range(5):
        builder.add_state()
    builder.set_final(3, 0.5)
    for source, ilabel, olabel, target, cost in rows:
        builder.add_arc(source, target, ilabel=ilabel, olabel=olabel, cost=cost)
    arrays = builder.arrays()
    fst = arrays.to_fst()
    assert fst.num_states == 5 and fst.start == 0 and fst.final(3).value == 0.5
    again = FstArrays.from_fst(fst)
    order = np.argsort(arrays.source, kind="stable")
    for name in ("source", "ilabel", "olabel", "cost", "target"):
        np.testing.assert_array_equal(getattr(again, name), getattr(arrays, name)[order])
    np.testing.assert_array_equal(again.final_cost, arrays.final_cost)
    seen = [(a.ilabel, a.olabel, a.nextstate) for q in range(5) for a in kaldifst.ArcIterator(fst, q)]
    assert seen == list(zip(again.ilabel, again.olabel, again.target, strict=True))


@pytest.mark.parametrize("triphone", [False, True])
def test_h_reads_the_states_of_every_window(triphone: bool, triphones: HmmModel) -> None:
    """Against the tree itself, for all windows; a disambiguation symbol passes as one label of its own."""
    hmm = triphones if triphone else HmmModel.monophone(triphones.phones)
    windows: list[list[int]] = [[], [-7]]
    if triphone:
        windows += [list(window) for window in product(range(7), range(1, 7), range(7))]
    else:
        windows += [[phone] for phone in range(1, 7)]
    states = states_fst(hmm, windows)
    found = {outputs: inputs for (inputs, outputs) in paths(states.fst, hmm.num_states) if len(outputs) == 1}
    assert len(found) == len(windows) - 1
    assert found[(1,)] == (states.first_disambiguation,)
    for label, window in enumerate(windows[2:], start=2):
        left, centre, right = window if triphone else (0, window[0], 0)
        ids = np.array(found[(label,)], np.int32)
        assert not hmm.transitions.is_self_loop[ids].any()
        assert hmm.pdfs(ids).tolist() == [hmm.tree.pdf(left, centre, right, state=state) for state in range(3)]


def test_self_loops_cost_what_the_transitions_say() -> None:
    """A graph with a state that is entered in two ways, against the product of the transition probabilities."""
    hmm = HmmModel.monophone(("SIL", "A"), num_states=1)
    hmm.transitions.loop_probability[:] = [0.6, 0.2]
    builder = FstBuilder()
    first, second = builder.add_state(), builder.add_state()
    builder.set_final(second, 0.25)
    for ilabel, olabel in ((2, 8), (4, 9)):
        builder.add_arc(first, second, ilabel=ilabel, olabel=olabel, cost=0.5)
    builder.add_arc(second, second, ilabel=4, olabel=9)
    builder.add_arc(first, second, ilabel=0, olabel=7, cost=3.0)
    found = paths(with_self_loops(builder.arrays(), hmm, self_loop_scale=0.5), 4)
    loop = {2: 0.6, 4: 0.2}
    expected = {}
    for outputs in [(7,), (8,), (9,), (7, 9), (8, 9), (9, 9), (7, 9, 9), (8, 9, 9)]:
        entered = [{8: 2, 9: 4}[output] for output in outputs if output != 7]
        for durations in product(range(1, 5), repeat=len(entered)):
            inputs = [i for enter, n in zip(entered, durations, strict=True) for i in [enter] + [enter - 1] * (n - 1)]
            cost = 0.25 + (3.0 if outputs[0] == 7 else 0.5)
            for enter, n in zip(entered, durations, strict=True):
                cost -= 0.5 * ((n - 1) * np.log(loop[enter]) + np.log(1 - loop[enter]))
            if len(inputs) <= 4:
                expected[tuple(inputs), outputs] = cost
    assert expected.keys() <= found.keys()
    for key, cost in expected.items():
        assert found[key] == pytest.approx(cost, abs=1e-5)
    assert all(len(key[1]) > 2 for key in found.keys() - expected.keys())


def test_g_scores_sentences_like_the_language_model() -> None:
    """Against back-off by hand, over all sentences of up to three words; the least cost may back off too early."""
    probs = {("<s>",): -99.0, ("</s>",): -0.8, ("A",): -0.5, ("B",): -0.7, ("<s>", "A"): -0.1, ("A", "B"): -0.2}
    probs |= {("A", "</s>"): -0.4, ("<s>", "A", "B"): -0.05, ("A", "B", "</s>"): -0.15}
    backoffs = {("<s>",): -0.3, ("A",): -0.25, ("B",): -0.1, ("<s>", "A"): -0.2, ("A", "B"): -0.35}
    lm = ArpaModel(3, probs, backoffs)
    fst = grammar_fst(lm, {"A": 1, "B": 2}, backoff_id=3)
    found = paths(fst, 8)
    for length in range(4):
        for words in product("AB", repeat=length):
            ids = tuple({"A": 1, "B": 2}[word] for word in words)
            least = min(cost for (_, outputs), cost in found.items() if outputs == ids)
            history, expected = ["<s>"], 0.0
            for word in [*words, "</s>"]:
                expected -= np.log(10) * lm.log10_prob(word, tuple(history[-2:]))
                history.append(word)
            assert least <= expected + 1e-5
            assert expected in [pytest.approx(cost, abs=1e-4) for (_, out), cost in found.items() if out == ids]


def test_l_reads_every_pronunciation_with_optional_silence(lexicon: Lexicon) -> None:
    word_ids = {word: index for index, word in enumerate(lexicon.words, start=1)}
    phone_ids = {phone: index for index, phone in enumerate(lexicon.phones, start=1)}
    words = lexicon_fst(lexicon, phone_ids, word_ids, silence_probability=0.25)
    backoff, *marks, silent = words.disambiguation
    assert backoff == len(phone_ids) + 1 and silent == words.disambiguation[-1] and len(marks) >= 2
    found = paths(words.fst, 6)
    real = {}
    for (inputs, outputs), cost in found.items():
        phones = tuple(label for label in inputs if label <= len(phone_ids))
        real.setdefault(outputs, {})[phones] = cost
    ac = real[(word_ids["AC"],)]
    assert ac.keys() == {(3, 5), (3, 6, 5), (1, 3, 5), (3, 5, 1), (1, 3, 5, 1), (1, 3, 6, 5), (3, 6, 5, 1)}
    assert ac[3, 5] == pytest.approx(-2 * np.log(0.75), abs=1e-5)
    assert ac[1, 3, 5] == pytest.approx(-np.log(0.25) - np.log(0.75), abs=1e-5)
    assert len({inputs for inputs, outputs in found if outputs in {(1,), (2,), (3,)}}) == len(
        [inputs for inputs, outputs in found if outputs in {(1,), (2,), (3,)}]
    ), "words that sound alike must differ in their disambiguation symbols"
