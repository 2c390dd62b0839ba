"""What is taken from a lattice for a hypothesis: the cheapest path, or the words with the fewest expected errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from lhuc_asr.decoding.lattices.hypothesis import hypothesis_of
from lhuc_asr.decoding.lattices.mbr import least_risk, mbr
from lhuc_asr.decoding.lattices.nbest import nbest
from lhuc_asr.decoding.lattices.paths import best_path
from lhuc_asr.decoding.lattices.posteriors import arc_posteriors
from lhuc_asr.decoding.lattices.word_lattice import word_lattice
from lhuc_asr.units import Milliseconds

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice
    from lhuc_asr.decoding.words.hypothesis import Hypothesis
    from lhuc_asr.hmm.states.model import HmmModel
    from lhuc_asr.lang.lexicon import Lexicon

_NUM_SENTENCES = 100
_MOST_ARCS = 12_000
"""Of a raw lattice; telling its sentences apart may take time and memory that grow much faster than this."""
_WIDEST, _NARROWEST = 8.0, 0.1


class HypothesisKind(Enum):
    """Which words are taken for what was said.

    Attributes:
        one_best: those of the cheapest path.
        mbr: those with the fewest expected errors; where no single path says them, so that they have neither times nor
            states, those of `least_risk`.
        least_risk: of the 100 cheapest sentences, the one with the fewest expected errors.
    """

    one_best = "one_best"
    mbr = "mbr"
    least_risk = "least_risk"


@dataclass(frozen=True, eq=False)
class LatticeReader:
    """Takes one hypothesis from a lattice.

    Attributes:
        hmm: cuts paths into phones.
        lexicon: what word ids stand for.
        kind: which words are taken.
        frame_shift_ms: from one frame to the next.
        acoustic_scale: factor on the log-likelihoods when sentences are weighed against each other for their expected
            errors; without it the one of the search.

    Example:
        >>> reader = LatticeReader(hmm, lexicon, HypothesisKind.mbr)  # doctest: +SKIP
        >>> reader(decoder.lattice("anna-1", log_likes)).text  # doctest: +SKIP
        'HELLO WORLD'
    """

    hmm: HmmModel
    lexicon: Lexicon
    kind: HypothesisKind = HypothesisKind.one_best
    frame_shift_ms: Milliseconds = 10.0
    acoustic_scale: float | None = None

    def __call__(self, lattice: Lattice) -> Hypothesis:
        """The hypothesis, with the times and states of the cheapest path that says its words."""
        scale = self.acoustic_scale
        if self.kind is HypothesisKind.mbr:
            found = self._saying(lattice, _fewest_errors(lattice, scale))
            if found is not None:
                return found
        found = self._saying(lattice, None if self.kind is HypothesisKind.one_best else _least_risk(lattice, scale))
        assert found is not None, "sentences of a lattice are paths of it"
        return found

    def _saying(self, lattice: Lattice, words: Sequence[int] | None) -> Hypothesis | None:
        return hypothesis_of(lattice, self.hmm, self.lexicon, words=words, frame_shift_ms=self.frame_shift_ms)


def _fewest_errors(lattice: Lattice, acoustic_scale: float | None = None) -> tuple[int, ...]:
    sentences = word_lattice(_of_bearable_size(lattice), acoustic_scale=acoustic_scale)
    cheapest = best_path(sentences)
    assert cheapest is not None, "a lattice has a path"
    return mbr(sentences, arc_posteriors(sentences), cheapest.words).words


def _least_risk(lattice: Lattice, acoustic_scale: float | None = None) -> tuple[int, ...]:
    sentences = word_lattice(_of_bearable_size(lattice), acoustic_scale=acoustic_scale)
    return least_risk(nbest(sentences, _NUM_SENTENCES)).words


def _of_bearable_size(lattice: Lattice) -> Lattice:
    """The lattice, or so many of its best paths that its sentences can be told apart in memory and time."""
    beam = _WIDEST
    while lattice.num_arcs > _MOST_ARCS and beam > _NARROWEST:
        beam *= 0.8
        lattice = lattice.pruned(beam)
    return lattice
