"""Recognition with a whole model: from features to words, and the choice of decoding settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.confidence import ConfidenceEstimator
from lhuc_asr.decoding.ctc import GreedyCtcDecoder
from lhuc_asr.decoding.ctc_graph import is_ctc
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.speed import DecodingSpeed, SpeedMeter, cpu_seconds
from lhuc_asr.decoding.tuning import TuningConfig, TuningReport, tune
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.errors import DecodingError, ModelError
from lhuc_asr.parallel import one_thread
from lhuc_asr.progress import track
from lhuc_asr.system.model_directory import AcousticSystem


@dataclass(frozen=True, eq=False)
class Recognised:
    """What was recognised in a corpus.

    Attributes:
        hypotheses: utterance id -> its words.
        failed: utterance id -> why it has none.
        speed: of the search.
    """

    hypotheses: Mapping[str, Hypothesis]
    failed: Mapping[str, str]
    speed: DecodingSpeed


def decoder_of(system: AcousticSystem) -> WfstDecoder:
    """The search through the model's own graph, with its own settings."""
    return WfstDecoder(
        system.graph_path, system.hmm, system.lexicon, system.decoding, frame_shift_ms=system.output_shift_ms
    )


def recognise_all(
    decoder: WfstDecoder,
    log_likes: Iterable[tuple[str, NDArray[np.float32]]],
    *,
    num_utterances: int,
    num_jobs: int = 1,
    on_lattice: Callable[[Lattice], None] | None = None,
    what: str = "decoding",
) -> Recognised:
    """Decode utterances; those without a path are told, not raised.

    Args:
        decoder: the search.
        log_likes: utterance id and (T, P) log-likelihoods, such as `all_log_likes` gives.
        num_utterances: how many there are, for the progress bar.
        num_jobs: processes.
        on_lattice: called with every lattice.
        what: what the progress bar says is going on.
    """
    failed: dict[str, str] = {}
    meter = SpeedMeter()

    def note(utterance: str, error: DecodingError) -> None:
        failed[utterance] = str(error)

    stream = decoder.decode_all(log_likes, num_jobs=num_jobs, meter=meter, on_failure=note, on_lattice=on_lattice)
    found = {hypothesis.utterance: hypothesis for hypothesis in track(stream, what, total=num_utterances)}
    return Recognised(found, failed, meter.speed)


def greedy_decoder_of(system: AcousticSystem) -> GreedyCtcDecoder:
    """Writes down what a CTC network hears; neither the lexicon nor the language model has a say.

    Raises:
        ModelError: the model was not trained with CTC.
    """
    if not is_ctc(system.hmm):
        raise ModelError(
            f"greedy decoding writes down the labels of a network trained with criterion=ctc; that of "
            f"'{system.directory}' tells tied states, which are no words without lexicon and language model"
        )
    return GreedyCtcDecoder(system.hmm, output_shift_ms=system.output_shift_ms)


def recognise_greedily(
    decoder: GreedyCtcDecoder, log_probs: Iterable[tuple[str, NDArray[np.float32]]], *, num_utterances: int
) -> Recognised:
    """Decode utterances without a search; see `greedy_decoder_of`."""
    found: dict[str, Hypothesis] = {}
    failed: dict[str, str] = {}
    meter = SpeedMeter()
    for utterance, matrix in track(log_probs, "decoding", total=num_utterances):
        begin = cpu_seconds()
        try:
            found[utterance] = decoder.decode(utterance, matrix)
        except DecodingError as error:
            failed[utterance] = str(error)
        meter.add(num_frames=len(matrix), cpu=cpu_seconds() - begin, frame_shift_ms=decoder.output_shift_ms)
    return Recognised(found, failed, meter.speed)


def recognise_with_posteriors(
    system: AcousticSystem, feats: Mapping[str, NDArray[np.float32]], *, num_jobs: int = 1
) -> Recognised:
    """Decode utterances by the model alone, each word with its posterior as it is, such as calibration is fitted on."""
    decoder = decoder_of(system).reading_lattices(estimator=ConfidenceEstimator(system.hmm, system.lexicon))
    items = all_log_likes(system, feats, num_jobs=num_jobs)
    return recognise_all(decoder, items, num_utterances=len(feats), num_jobs=num_jobs, what="calibrating")


def all_log_likes(
    system: AcousticSystem,
    feats: Mapping[str, NDArray[np.float32]],
    *,
    adapted: Callable[[str], AbstractContextManager[Any]] = lambda utterance: nullcontext(),
    at_once: bool = False,
    num_jobs: int = 1,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Utterance id and (T, P) log-likelihoods of every utterance, computed when they are asked for.

    Args:
        system: the model.
        feats: utterance id -> (T, F), normalised.
        adapted: gives the context in which an utterance is computed, such as its speaker's scales attached.
        at_once: long utterances are not computed in parts.
        num_jobs: processes that search meanwhile.
    """
    for utterance, matrix in feats.items():
        with one_thread(when=num_jobs > 1), adapted(utterance):
            log_likes = system.log_likes(matrix, at_once=at_once)
        yield utterance, log_likes


def tune_decoding(
    system: AcousticSystem,
    feats: Mapping[str, NDArray[np.float32]],
    error_rate: Callable[[Mapping[str, str]], float],
    config: TuningConfig,
    *,
    num_jobs: int = 1,
) -> TuningReport:
    """Try a grid of decoding settings on development speech.

    Args:
        system: the model.
        feats: utterance id -> (T, F), normalised; never test speech.
        error_rate: utterance id -> words, to an error rate in percent.
        config: the grid.
        num_jobs: processes.
    """
    items = all_log_likes(system, feats, num_jobs=num_jobs)
    return tune(decoder_of(system), items, error_rate, config, num_jobs=num_jobs, num_utterances=len(feats))
