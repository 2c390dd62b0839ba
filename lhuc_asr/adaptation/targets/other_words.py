"""Words of another system as targets: read, and aligned by the model that is adapted (cross-adaptation).

Two systems err in different places. A model that learns from its own words confirms its own errors; one that learns
from another's words does not, if the other errs no more often and elsewhere. Words that come from the same model, or
from a worse one, are better left out.

Source: Stueker, Fuegen, Burger & Woelfel 2006, "Cross-system adaptation and combination for continuous speech
recognition: the influence of phoneme set and acoustic front-end", Interspeech.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.data.kaldi_tables import read_rows
from lhuc_asr.decoding.words.hypothesis import Hypothesis, read_hypotheses
from lhuc_asr.decoding.words.word_times import phone_segments, time_words
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.hmm.alignment import AlignConfig, Alignment, AlignmentSet, ForcedAligner
from lhuc_asr.parallel import one_thread
from lhuc_asr.progress import track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
    from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
    from lhuc_asr.system.model_directory import AcousticSystem

logger = logging.getLogger(__name__)

_HYPOTHESES, _TEXT = "hypotheses.jsonl", "text"


@dataclass(frozen=True, slots=True)
class OtherWords:
    """What another system recognised in one utterance.

    Attributes:
        words: in order; none is a legal result.
        confidences: the chance of each word to be right, in [0, 1]; None where the other system tells none.
    """

    words: tuple[str, ...]
    confidences: tuple[float, ...] | None = None

    @property
    def text(self) -> str:
        """The words, separated by single spaces."""
        return " ".join(self.words)


def read_words(path: Path) -> dict[str, OtherWords]:
    """Utterance id -> what was recognised in it.

    Args:
        path: what ``lhuc-decode`` or ``lhuc-adapt`` wrote (``OUT``, ``OUT/adapted``), a directory with a Kaldi
            ``text``, or such a file.

    Raises:
        DataError: there is nothing of that kind, it is damaged, or an utterance stands in it twice.

    Example:
        >>> read_words(Path("exp/other/text"))["anna-1"]  # doctest: +SKIP
        OtherWords(words=('ONE', 'TWO'), confidences=None)
    """
    if path.is_dir() and (path / _HYPOTHESES).is_file():
        found = read_hypotheses(path)
        return {
            name: OtherWords(tuple(word.text for word in own.words), own.confidences) for name, own in found.items()
        }
    table = path / _TEXT if path.is_dir() else path
    if not table.is_file():
        raise DataError(f"there are no words in '{path}': it must be a Kaldi text, or hold {_HYPOTHESES} or {_TEXT}")
    rows = read_rows(table)
    words = {row.id: OtherWords(tuple(row.value.split())) for row in rows}
    if len(words) < len(rows):
        raise DataError(f"'{table}' holds {len(rows)} lines of {len(words)} utterances; each may stand there once")
    return words


def words_from(path: str | None, *, with_confidences: bool = False) -> dict[str, OtherWords]:
    """The words that the settings name.

    Args:
        path: of ``adapt.words_from``.
        with_confidences: every utterance must have them.

    Raises:
        ConfigError: they name none.
        DataError: the words cannot be read, or lack the confidences that are asked for.
    """
    if path is None:
        raise ConfigError(
            "adapt.supervision=words learns from another system's words: give adapt.words_from, what lhuc-decode wrote "
            "with another model or another language model, or a Kaldi text"
        )
    found = read_words(Path(path))
    without = [name for name, own in found.items() if own.words and own.confidences is None]
    if with_confidences and without:
        raise DataError(
            f"{len(without)} of {len(found)} utterances in '{path}' have no confidences, such as {without[0]!r}; "
            "decode with --confidences, or leave out adapt.weights, adapt.min_confidence and adapt.best_share"
        )
    return found


def align_words(
    system: AcousticSystem,
    texts: Mapping[str, str],
    utterances: Sequence[str],
    feats: Mapping[str, NDArray[np.float32]],
    *,
    num_jobs: int,
    description: str,
) -> AlignmentSet:
    """State paths of words that are given, by the speaker-independent model; unknown words and lost paths are told.

    Args:
        system: the model.
        texts: utterance id -> words.
        utterances: which are aligned.
        feats: utterance id -> (T, F) normalised.
        num_jobs: processes.
        description: of the progress bar.
    """
    report = system.lexicon.oov_report({name: texts[name] for name in utterances if name in texts})
    if report.num_oov:
        logger.warning("%s: %s; these are taken for the unknown word", description, report)
    aligner = ForcedAligner(system.hmm, system.lexicon, AlignConfig(acoustic_scale=system.decoding.acoustic_scale))

    def log_likes(utterance: str) -> tuple[str, NDArray[np.float32]]:
        with one_thread(when=num_jobs > 1):
            return utterance, system.log_likes(feats[utterance])

    return aligner.align_all(map(log_likes, track(utterances, description)), texts, num_jobs=num_jobs)


@dataclass(frozen=True, eq=False)
class Taught:
    """Another system's words, aligned by the model that is adapted.

    Attributes:
        hypotheses: utterance id -> words with times and confidences, and the state path.
        failed: utterance id -> why it has no path.
    """

    hypotheses: Mapping[str, Hypothesis]
    failed: Mapping[str, str]


def align_other_words(
    system: AcousticSystem,
    words: Mapping[str, OtherWords],
    plans: Sequence[SpeakerPlan],
    first: Mapping[str, SpeakerPass],
    feats: Mapping[str, NDArray[np.float32]],
    *,
    num_jobs: int,
) -> Taught:
    """Paths of another system's words; where the first pass says the same words, its path is taken.

    So words of the first pass itself give its own targets, bit for bit.

    Args:
        system: the model that is adapted.
        words: utterance id -> what the other system recognised.
        plans: speakers and the utterances that they are learnt from.
        first: speaker -> first pass.
        feats: utterance id -> (T, F) normalised.
        num_jobs: processes.
    """
    own = {name: found for plan in plans for name, found in first[plan.speaker].of(plan.adaptation).items()}
    wanted = [name for plan in plans for name in plan.adaptation]
    missing = {name: "the other system has no words of it" for name in wanted if name not in words}
    same = {name: found for name, found in own.items() if name in words and found.text == words[name].text}
    texts = {name: words[name].text for name in wanted if name in words and name not in same}
    aligned = align_words(system, texts, list(texts), feats, num_jobs=num_jobs, description="aligning other words")
    for utterance, reason in {**missing, **aligned.failed}.items():
        logger.warning("utterance %r is left out: %s", utterance, reason)
    others = {name: _hypothesis(name, words[name], path, system) for name, path in aligned.alignments.items()}
    taught = {name: _as_sure_as(words[name], found) for name, found in {**same, **others}.items()}
    return Taught(taught, {**missing, **aligned.failed})


def _hypothesis(utterance: str, words: OtherWords, path: Alignment, system: AcousticSystem) -> Hypothesis:
    """Words on a path; it costs nothing, for nobody searched for it."""
    shift = system.output_shift_ms
    timed = time_words(words.words, phone_segments(path, system.hmm), system.lexicon, frame_shift_ms=shift)
    return Hypothesis(utterance, timed, path, 0.0, 0.0, frame_shift_ms=shift)


def _as_sure_as(words: OtherWords, hypothesis: Hypothesis) -> Hypothesis:
    return hypothesis if words.confidences is None else hypothesis.with_confidences(words.confidences)
