"""A decoder's lattice as training reads it: the same probabilities, and a loss that moves a speaker's scales."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lhuc_asr.decoding.graph import DecodingGraph
from lhuc_asr.decoding.lattices.posteriors import arc_posteriors, frame_posteriors
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.errors import ModelError
from lhuc_asr.hmm.graphs.graph import build_graph
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.system.lattice_arcs import silence_states, state_lattice
from lhuc_asr.training.criteria.smbr.objective import Silence, Smbr, SmbrConfig, SmbrTarget

LEXICON = Lexicon({"AB": (("A", "B"),), "A": (("A",),), "BB": (("B", "B"),)})
HMM = HmmModel.monophone(LEXICON.phones)
LM = ArpaModel(1, {("AB",): -0.5, ("A",): -0.4, ("BB",): -0.6, ("</s>",): -0.7}, {})
SCALE = 0.3


@pytest.fixture(scope="module")
def decoder() -> WfstDecoder:
    graph = DecodingGraph.of(build_graph(HMM, LEXICON, LM))
    return WfstDecoder(graph, HMM, LEXICON, DecodingConfig(acoustic_scale=SCALE, beam=40.0, lattice_beam=8.0))


def log_likes(num_frames: int = 14) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((num_frames, HMM.num_pdfs)).astype(np.float32)


def test_the_frames_are_as_likely_as_the_decoder_says(decoder: WfstDecoder) -> None:
    """Posteriors of the decoder's own lattice, which carries the same scores, are another implementation."""
    scores = log_likes()
    lattice, best = decoder.lattice("u1", scores), decoder.decode("u1", scores)
    reference = HMM.pdfs(best.transition_ids)
    posteriors = frame_posteriors(lattice, arc_posteriors(lattice), HMM.transitions.pdf_of, HMM.num_pdfs)
    smbr = Smbr(torch.zeros(HMM.num_pdfs), config=SmbrConfig(acoustic_scale=SCALE, silence=Silence.exact))
    target = SmbrTarget(state_lattice(lattice, HMM), reference)
    result = smbr(torch.from_numpy(scores)[None], torch.tensor([len(scores)]), [target])
    np.testing.assert_allclose(result.frame_accuracy[0].numpy(), posteriors.of_path(reference), atol=1e-4)
    assert target.num_missing == 0
    assert 0.2 < float(result.accuracy) < 0.999


def test_the_loss_moves_a_speakers_scales_and_nothing_else(decoder: WfstDecoder) -> None:
    scores = torch.from_numpy(log_likes())
    generator = torch.Generator().manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Linear(HMM.num_pdfs, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, HMM.num_pdfs)
    )
    for values in network.parameters():
        torch.nn.init.normal_(values, generator=generator)
        values.requires_grad_(False)
    with torch.no_grad():
        first_pass = network(scores).log_softmax(dim=-1).numpy()
    lattice, best = decoder.lattice("u1", first_pass), decoder.decode("u1", first_pass)
    target = SmbrTarget(state_lattice(lattice, HMM), HMM.pdfs(best.transition_ids))
    smbr = Smbr(torch.zeros(HMM.num_pdfs), silence_states=silence_states(HMM), config=SmbrConfig(acoustic_scale=SCALE))
    adapter, accuracies = LhucAdapter({"1": torch.zeros(8)}), []
    for _ in range(5):
        with adapter.attached(network):
            result = smbr(network(scores)[None].log_softmax(dim=-1), torch.tensor([len(scores)]), [target])
        result.loss.backward()
        adapter = LhucAdapter({name: r.detach() - 0.5 * r.grad for name, r in adapter.r.items()})
        accuracies.append(float(result.accuracy))
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] > accuracies[0]
    assert all(values.grad is None for values in network.parameters())


def test_silence_is_the_first_phone() -> None:
    assert silence_states(HMM) == [0, 1, 2]


def test_lattices_of_another_model_are_refused_by_name(decoder: WfstDecoder) -> None:
    lattice = decoder.lattice("anna", log_likes())
    other = replace(lattice, transition_id=lattice.transition_id + 100)
    with pytest.raises(ModelError, match=r"'anna' has transition id .* decode again"):
        state_lattice(other, HMM)
