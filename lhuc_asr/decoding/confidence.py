"""How sure the recogniser is of a hypothesis: of every word, every frame and the whole utterance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.decoding.lattices.mbr import confusion_network
from lhuc_asr.decoding.lattices.posteriors import arc_posteriors, frame_posteriors
from lhuc_asr.errors import DecodingError
from lhuc_asr.ranges import require_at_least, require_finite

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice
    from lhuc_asr.decoding.words.hypothesis import Hypothesis
    from lhuc_asr.hmm.states.model import HmmModel
    from lhuc_asr.lang.lexicon import Lexicon


@dataclass(kw_only=True, slots=True)
class ConfidenceConfig:
    """At which scales paths of a lattice are weighed against each other.

    Attributes:
        acoustic_scale: factor on the log-likelihoods; 0 takes the one of the search.
        graph_scale: factor on the graph's costs.
    """

    acoustic_scale: float = 0.0
    graph_scale: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(0, self, "confidence", "acoustic_scale", "graph_scale")
        require_finite(self, "confidence", "acoustic_scale", "graph_scale")


@dataclass(frozen=True, eq=False)
class Confidences:
    """How sure the recogniser is of one hypothesis.

    Attributes:
        utterance: its id.
        words: one of [0, 1] for each word: the posterior of the word in its place, calibrated where that was asked for.
        frames: (T,) float32 in [0, 1], posterior of the tied state on the path, frame after frame; not calibrated.
        num_expected_errors: expected word errors of the hypothesis, missing words among them; not calibrated.
    """

    utterance: str
    words: tuple[float, ...]
    frames: NDArray[np.float32]
    num_expected_errors: float

    @property
    def whole(self) -> float:
        """One figure for the utterance: the mean over its words; that over its frames where it has no words."""
        return float(np.mean(self.words)) if self.words else float(np.mean(self.frames))


@dataclass(frozen=True, eq=False)
class ConfidenceEstimator:
    """Reads confidences of hypotheses off their lattices.

    Posteriors are sums over all paths, those that say the same at other times among them: a word that could be said at
    many times is surer. Without these (`lhuc_asr.decoding.lattices.word_lattice`), confidences told less about errors.

    Attributes:
        hmm: tells the tied state of a transition id.
        lexicon: tells the id of a word.
        config: scales.
        calibration: map from word posteriors to chances of being right; the identity if it is not given.

    Example:
        >>> estimator = ConfidenceEstimator(hmm, lexicon)  # doctest: +SKIP
        >>> estimator(decoder.lattice("anna-1", log_likes), decoder.decode("anna-1", log_likes)).words  # doctest: +SKIP
        (0.93, 0.41)
    """

    hmm: HmmModel
    lexicon: Lexicon
    config: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    calibration: Calibration | None = None

    def __call__(self, lattice: Lattice, hypothesis: Hypothesis) -> Confidences:
        """Confidences of a hypothesis, which need not be a path of the lattice.

        Raises:
            DecodingError: the two are not of the same utterance, or a word is not in the lexicon.
        """
        if lattice.utterance != hypothesis.utterance:
            raise DecodingError(f"a lattice of {lattice.utterance!r} and a hypothesis of {hypothesis.utterance!r}")
        scale = self.config.acoustic_scale or None
        arcs = arc_posteriors(lattice, acoustic_scale=scale, graph_scale=self.config.graph_scale)
        network = confusion_network(lattice, arcs, word_ids(hypothesis, self.lexicon))
        words = np.asarray(network.confidences)
        if self.calibration is not None:
            words = self.calibration(words)
        states = frame_posteriors(lattice, arcs, self.hmm.transitions.pdf_of, self.hmm.num_pdfs)
        frames = states.of_path(self.hmm.pdfs(hypothesis.transition_ids))
        return Confidences(hypothesis.utterance, tuple(words.tolist()), frames, network.risk)


def word_ids(hypothesis: Hypothesis, lexicon: Lexicon) -> tuple[int, ...]:
    """The words' ids, from 1.

    Raises:
        DecodingError: a word is not in the lexicon.
    """
    number = {word: index for index, word in enumerate(lexicon.words, start=1)}
    try:
        return tuple(number[word.text] for word in hypothesis.words)
    except KeyError as error:
        raise DecodingError(
            f"utterance {hypothesis.utterance!r}: {error.args[0]!r} is not a word of the lexicon"
        ) from error
