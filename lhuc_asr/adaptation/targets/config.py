"""What a speaker's frames are taken for, and how sure of that the recogniser must be: settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lhuc_asr.adaptation.targets.doubt import DoubtConfig
from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_at_least, require_finite, require_positive, require_share, require_share_below_one


class Supervision(Enum):
    """Where targets come from.

    Attributes:
        one_best: the first pass's best state path, errors included.
        lattice: every state of the first pass's lattice, as far as it is likely.
        n_best: the state paths of its cheapest sentences, each as far as the sentence is likely.
        mbr: the state path of the words with the fewest expected errors.
        soft: what the speaker-independent network says of each frame by itself.
        entropy: none; the adapted network shall be sure of something. ``kl`` keeps it near the network as it was.
        words: another system's words, aligned by the model that is adapted.
        oracle: the aligned references; for research.
    """

    one_best = "one_best"
    lattice = "lattice"
    n_best = "n_best"
    mbr = "mbr"
    soft = "soft"
    entropy = "entropy"
    words = "words"
    oracle = "oracle"


class Confidence(Enum):
    """How sure the recogniser is of a frame.

    Attributes:
        frame: posterior of the path's state in the lattice.
        word: confidence of the word that is said, calibrated where the model has a calibration; frames outside of
            words have the mean of the utterance's words.
        utterance: the mean of ``word`` over the utterance, the same for all of its frames.
    """

    frame = "frame"
    word = "word"
    utterance = "utterance"


class Weighting(Enum):
    """What a frame counts: all the same, or as much as the recogniser is sure of it, of its word, of its utterance."""

    none = "none"
    frame = "frame"
    word = "word"
    utterance = "utterance"


class Selection(Enum):
    """What is chosen by how sure the recogniser is of it.

    Attributes:
        utterances: whole, by their mean confidence.
        frames: by their own; where that is the word's, words are kept or left out whole.
    """

    utterances = "utterances"
    frames = "frames"


@dataclass(kw_only=True)
class TargetConfig(DoubtConfig):
    """What frames are taken for, and what they count; without slots, to be one base of several.

    How doubt is measured for ``entropy`` stands in the base.

    Attributes:
        supervision: targets of the frames.
        lattice_scale: factor on the log-likelihoods when paths of a lattice are weighed against each other, for
            targets (``lattice``, ``n_best``, ``mbr``) and for confidences of frames; 0 takes the one of the search.
        sharpness: exponent on the probabilities of targets that several states share; above 1 the likeliest gets more.
        num_sentences: that many at most, for ``n_best``.
        kl: share of what the speaker-independent network says in every target, 0 to 1.
        words_from: of ``words``: what `lhuc-decode` wrote with another model or language model, or a Kaldi ``text``.
            Confidences of words are then the other system's.
        only_agreed: of ``words``: only what the first pass recognises as well counts.
        weights: what a frame counts.
        confidence: what ``min_confidence`` and ``best_share`` look at.
        min_confidence: frames of which the recogniser is less sure do not count; with ``confidence=utterance`` these
            are whole utterances.
        best_share: share of each speaker's utterances or frames that count, those with the highest confidence.
        share_of: what that is a share of.

    When not to use them: weights and thresholds cost speech, and with seconds of it there is too little left; targets
    of lattices know of doubt already. ``soft`` and ``entropy`` hear no language model: where words are mostly right,
    any kind that follows words knows more. ``words`` is worth what the other system is: one that errs more, or in the
    same places, teaches nothing.

    Source: Klejch et al. 2019 (arXiv:1906.11521) for lattices, and for shares of the utterances, which helped best
    paths and not lattices; Yu et al. 2013 (ICASSP, "KL-divergence regularized deep neural network adaptation", eq. 5)
    for ``kl``.
    """

    supervision: Supervision = Supervision.one_best
    lattice_scale: float = 0.0
    sharpness: float = 1.0
    num_sentences: int = 10
    kl: float = 0.0
    words_from: str | None = None
    only_agreed: bool = False
    weights: Weighting = Weighting.none
    confidence: Confidence = Confidence.word
    min_confidence: float = 0.0
    best_share: float = 1.0
    share_of: Selection = Selection.utterances

    def __post_init__(self) -> None:
        DoubtConfig.__post_init__(self)
        require_at_least(0, self, "adapt", "lattice_scale")
        require_positive(self, "adapt", "sharpness")
        require_finite(self, "adapt", "lattice_scale", "sharpness")
        require_at_least(1, self, "adapt", "num_sentences")
        require_share_below_one(self, "adapt", "kl")
        require_share(self, "adapt", "min_confidence")
        if not 0 < self.best_share <= 1:
            raise ConfigError(f"adapt.best_share must be above 0 and at most 1, got {self.best_share}")
        self._check_together()

    def _check_together(self) -> None:
        if self.supervision is Supervision.soft and self.sharpness == 1 and not self.looks_at_confidence:
            raise ConfigError(
                "adapt.supervision=soft learns nothing by itself: the network agrees with itself; "
                "give adapt.sharpness above 1"
            )
        if self.supervision is Supervision.oracle and self.looks_at_confidence:
            raise ConfigError(
                "adapt.supervision=oracle takes all frames as they are: adapt.weights, adapt.min_confidence and "
                "adapt.best_share are for targets that may be wrong"
            )

        if self.supervision is not Supervision.words and (self.words_from is not None or self.only_agreed):
            raise ConfigError(
                f"adapt.words_from and adapt.only_agreed are for adapt.supervision=words, not {self.supervision.name}"
            )

    @property
    def looks_at_confidence(self) -> bool:
        """Whether frames or utterances count by how sure the recogniser is of them."""
        return self.weights is not Weighting.none or self.min_confidence > 0 or self.best_share < 1

    @property
    def weighs_frames(self) -> bool:
        """Whether frames of one utterance may count differently."""
        chooses = self.min_confidence > 0 and self.confidence is not Confidence.utterance
        chooses = chooses or (self.best_share < 1 and self.share_of is Selection.frames)
        return self.weights is not Weighting.none or chooses or self.only_agreed

    @property
    def needs_words(self) -> bool:
        """Whether confidences of words are asked for."""
        selects = self.min_confidence > 0 or self.best_share < 1
        weighs = self.weights in (Weighting.word, Weighting.utterance)
        return weighs or (selects and self.confidence is not Confidence.frame)

    @property
    def needs_lattices(self) -> bool:
        """Whether the first pass must keep more than its best paths."""
        of_lattices = (Supervision.lattice, Supervision.n_best, Supervision.mbr)
        if self.supervision is Supervision.words:
            return self.needs_frames
        return self.supervision in of_lattices or self.looks_at_confidence

    @property
    def learns_from_passes(self) -> bool:
        """Whether targets change when something else is recognised."""
        fixed = (Supervision.soft, Supervision.entropy, Supervision.oracle)
        return self.supervision not in fixed and (self.supervision is not Supervision.words or self.only_agreed)

    @property
    def needs_frames(self) -> bool:
        """Whether confidences of frames are asked for."""
        selects = self.min_confidence > 0 or self.best_share < 1
        return self.weights is Weighting.frame or (selects and self.confidence is Confidence.frame)

    @property
    def needs_calibration(self) -> bool:
        """Whether confidences of the model's own words are asked for; another system's are calibrated already."""
        return self.needs_words and self.supervision is not Supervision.words

    def described(self) -> str:
        """The supervision and what departs from the defaults, on one line."""
        plain = TargetConfig()
        names = ["lattice_scale", "sharpness", "num_sentences", "kl", "entropy_order", "confusion", "negatives"]
        names += ["temperature", "min_confidence", "best_share"]
        told = [f"{name} {getattr(self, name):g}" for name in names if getattr(self, name) != getattr(plain, name)]
        if self.confusion_over is not plain.confusion_over:
            told.append(f"confusion over {self.confusion_over.name}")
        if self.weights is not Weighting.none:
            told.append(f"weights {self.weights.name}")
        if self.min_confidence > 0 or self.best_share < 1:
            told.append(f"confidence of each {self.confidence.name}")
        if self.share_of is not plain.share_of:
            told.append(f"share of {self.share_of.name}")
        if self.words_from is not None:
            told.append(f"from {self.words_from}" + ", as far as both agree" * self.only_agreed)
        return ", ".join([self.supervision.name, *told])
