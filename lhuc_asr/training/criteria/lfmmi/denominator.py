"""Everything that could be said: the phone language model in the chain topology."""

from __future__ import annotations

import logging
from enum import Enum

from lhuc_asr.hmm.states.topology import EDGE
from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph, GraphBuilder
from lhuc_asr.training.criteria.lfmmi.phone_lm import START, History, PhoneLm

_LOG = logging.getLogger(__name__)

Place = tuple[History, int]
"""A state of the denominator: the phones before, and the tied state of another frame of the last one (-1: of none)."""


class Extent(Enum):
    """Where the denominator's paths begin and end.

    ``utterance``: at the beginning and end of an utterance, with the phone model's probabilities of both.
    ``stationary``: anywhere; Kaldi's choice, needed for pieces of utterances and milder on whole ones.
    """

    utterance = "utterance"
    stationary = "stationary"


def denominator_graph(
    lm: PhoneLm, topology: ChainTopology, *, extent: Extent = Extent.stationary, num_frames: int = 100
) -> ChainGraph:
    """Compose phone model and topology; state 0 is the beginning of an utterance.

    Args:
        lm: phone n-grams.
        topology: tied states of phones.
        extent: where paths begin and end.
        num_frames: over which the start of ``stationary`` is averaged.

    Source: Povey et al. 2016, "Purely sequence-trained neural networks for ASR based on lattice-free MMI",
    Interspeech, sections 2.2 to 2.4.
    """
    graph, _ = _compose(lm, topology)
    _LOG.info("denominator: %d states, %d arcs, %s", graph.num_states, graph.num_arcs, extent.value)
    return graph.cut_anywhere(graph.stationary(num_frames=num_frames)) if extent is Extent.stationary else graph


def log_starts(lm: PhoneLm, topology: ChainTopology, denominator: ChainGraph) -> dict[Place, float]:
    """Where the paths of a denominator may begin, with the weight of each."""
    _, states = _compose(lm, topology)
    return {place: float(denominator.start[state]) for place, state in states.items()}


def _compose(lm: PhoneLm, topology: ChainTopology) -> tuple[ChainGraph, dict[Place, int]]:
    """All that can be said in whole utterances, and its states."""
    builder = GraphBuilder()
    begin: Place = (START, -1)
    states, waiting = {begin: builder.add_state(start=0.0)}, [begin]
    while waiting:
        history, loop = key = waiting.pop()
        state, leave = states[key], topology.log_leave if loop >= 0 else 0.0
        if loop >= 0:
            builder.add_arc(state, state, pdf=loop, log_weight=topology.log_loop)
        for phone, log_prob in lm.log_probs.get(history, {}).items():
            if phone == EDGE:
                builder.set_final(state, leave + log_prob)
                continue
            following = (lm.step(history, phone).history, int(topology.loop[history[-1], phone]))
            if following not in states:
                states[following] = builder.add_state()
                waiting.append(following)
            pdf = int(topology.enter[history[-1], phone])
            builder.add_arc(state, states[following], pdf=pdf, log_weight=leave + log_prob)
    return builder.graph(), states
