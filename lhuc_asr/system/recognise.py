"""Recognition with a whole model: from features to words, and the choice of decoding settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.tuning import TuningConfig, TuningReport, tune
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.parallel import one_thread
from lhuc_asr.system.model_directory import AcousticSystem


def decoder_of(system: AcousticSystem) -> WfstDecoder:
    """The search through the model's own graph, with its own settings."""
    return WfstDecoder(system.graph_path, system.hmm, system.lexicon, system.decoding)


def all_log_likes(
    system: AcousticSystem, feats: Mapping[str, NDArray[np.float32]], *, num_jobs: int = 1
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Utterance id and (T, P) log-likelihoods of every utterance, computed when they are asked for.

    Args:
        system: the model.
        feats: utterance id -> (T, F), normalised.
        num_jobs: processes that search meanwhile.
    """
    for utterance, matrix in feats.items():
        with one_thread(when=num_jobs > 1):
            log_likes = system.log_likes(matrix)
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
