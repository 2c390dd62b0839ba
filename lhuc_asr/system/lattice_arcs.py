"""Lattices of a decoder as training reads them: tied states in place of transition ids, no acoustic costs."""

from __future__ import annotations

import numpy as np

from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.errors import ModelError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.training.criteria.smbr.state_lattice import StateLattice


def state_lattice(lattice: Lattice, hmm: HmmModel) -> StateLattice:
    """The arcs of an utterance for sMBR.

    The acoustic costs are left behind: training scores the paths with the network as it is by then.

    Args:
        lattice: of the first pass; prune it first where memory is short.
        hmm: tells the tied state of every transition id.

    Raises:
        ModelError: the lattice was made with another model.
    """
    highest = int(lattice.transition_id.max(initial=0))
    if highest > hmm.transitions.num_transition_ids:
        raise ModelError(
            f"the lattice of utterance {lattice.utterance!r} has transition id {highest}; "
            f"the model has 1 to {hmm.transitions.num_transition_ids}: decode again with this model"
        )
    return StateLattice(
        utterance=lattice.utterance,
        source=lattice.source,
        target=lattice.target,
        state=hmm.pdfs(lattice.transition_id),
        log_weight=-lattice.graph_cost.astype(np.float64),
        frame=lattice.frame,
        log_final=-lattice.final_cost.astype(np.float64),
    )


def silence_states(hmm: HmmModel) -> list[int]:
    """The tied states of the silence phone, ascending."""
    states: list[int] = np.unique(hmm.transitions.pdf[hmm.transitions.phone == SILENCE]).tolist()
    return states
