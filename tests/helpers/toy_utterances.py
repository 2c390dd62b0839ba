"""Utterances of a language with four phones, for tests of learning from whole utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.transitions import enters, loops
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig
from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
from lhuc_asr.training.criteria.lfmmi.denominator import denominator_graph, log_starts
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler, PhoneSegments
from lhuc_asr.training.criteria.lfmmi.objective import LfMmi, LfMmiConfig
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLm
from lhuc_asr.training.criteria.mmi_criterion import Mmi, SpokenPhones

PHONES = ("SIL", "A", "B", "C")
ALIGNER = HmmModel.monophone(PHONES)
CHAIN = HmmModel.monophone(PHONES, num_states=1, loop_probability=0.5)
DIM = 5


def aligned(phones: Sequence[int], lengths: Sequence[int], hmm: HmmModel = ALIGNER) -> NDArray[np.int32]:
    """(T,) transition ids of phones that last so many frames; the first and the last state of each take one."""
    ids: list[int] = []
    for phone, length in zip(phones, lengths, strict=True):
        states = hmm.transition_state_table[0, phone, 0]
        durations = [1, length - len(states) + 1, *[1] * (len(states) - 2)] if len(states) > 1 else [length]
        for state, duration in zip(states, durations, strict=True):
            ids += [int(enters(state)), *[int(loops(state))] * (duration - 1)]
    return np.array(ids, np.int32)


@dataclass(frozen=True)
class ToyUtterances:
    """What was said in each utterance, when, and how it sounds."""

    phones: dict[str, list[int]]
    alignments: dict[str, NDArray[np.int32]]
    feats: dict[str, NDArray[np.float32]]

    @property
    def names(self) -> list[str]:
        """All ids."""
        return list(self.feats)

    def states(self, hmm: HmmModel = ALIGNER) -> dict[str, NDArray[np.int32]]:
        """(T,) tied states of the aligner by utterance."""
        return {name: hmm.pdfs(path) for name, path in self.alignments.items()}


def toy_utterances(count: int = 8, *, seed: int = 0, num_phones: tuple[int, int] = (3, 8)) -> ToyUtterances:
    """Silence, some phones, silence; every phone lasts 4 to 9 frames."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(0, 2, (len(PHONES) + 1, DIM))
    made = ToyUtterances({}, {}, {})
    for number in range(count):
        name = f"u{number}"
        said = [1, *rng.integers(2, 5, rng.integers(*num_phones)).tolist(), 1]
        made.phones[name] = said
        made.alignments[name] = aligned(said, rng.integers(4, 10, len(said)).tolist())
        of_frame = ALIGNER.phones_of(made.alignments[name])
        made.feats[name] = (centre[of_frame] + rng.normal(0, 0.5, (len(of_frame), DIM))).astype(np.float32)
    return made


def toy_tdnnf(num_outputs: int, **settings: Any) -> TdnnF:
    """Two factored layers, an output for every third frame."""
    config = TdnnFConfig(
        **{"hidden_dim": 16, "bottleneck_dim": 6, "dilations": [1, 1, 3], "subsampling": 3, **settings}
    )
    return TdnnF(config, feat_dim=DIM, num_outputs=num_outputs, seed=1)


def toy_mmi(speech: ToyUtterances, *, smoothing: float = 0.0, leak: float = 0.1) -> Mmi:
    """LF-MMI of the chain model without regulariser."""
    segments = {name: PhoneSegments.of_alignment(ALIGNER, path) for name, path in speech.alignments.items()}
    lm, topology = (
        PhoneLm.estimate(map(PhoneGraph.of_phones, speech.phones.values())),
        ChainTopology.of_tree(CHAIN.tree),
    )
    denominator = denominator_graph(lm, topology)
    starts = log_starts(lm, topology, denominator)
    compiler = NumeratorCompiler(lm, topology, log_start=float(denominator.start[0]), log_starts=starts)
    lfmmi = LfMmi(denominator, LfMmiConfig(leak=leak, l2_regularisation=0.0))
    return Mmi(lfmmi, SpokenPhones(compiler, segments), smoothing=smoothing)
