"""Which state every frame belongs to: by a GMM from a flat start, later by the network itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.errors import AlignmentError, first_few
from lhuc_asr.hmm.alignment import AlignmentSet, ForcedAligner
from lhuc_asr.hmm.chain import chain_hmm
from lhuc_asr.hmm.flat_start import train_gmm
from lhuc_asr.hmm.gmm_system import GmmSystem
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.streaming import log_probs_of
from lhuc_asr.parallel import one_thread
from lhuc_asr.progress import track
from lhuc_asr.system.stages.workplace import Workplace

logger = logging.getLogger(__name__)

GMM = "gmm"
"""Stage of the flat start."""


@dataclass(frozen=True, eq=False)
class AlignedSpeech:
    """The training speech frame by frame.

    Attributes:
        alignments: of the original utterances.
        aligner: the model whose transition ids they are.
        hmm: the model whose tied states the network learns.
        key: of the stage that gave ``hmm``.
    """

    alignments: AlignmentSet
    aligner: HmmModel
    hmm: HmmModel
    key: str


def align_by_gmm(place: Workplace) -> AlignedSpeech:
    """Flat start, tied states, alignments."""
    directory, feats, settings = place.work / GMM, place.gmm_feats, place.settings

    def make(target: Path) -> None:
        transcripts = place.inputs.manifest.transcripts
        system = train_gmm(feats, transcripts, place.inputs.lexicon, settings.gmm, num_jobs=place.num_jobs)
        system.save(target)

    inputs = [place.data_key, place.words_key, settings.gmm, settings.gmm_features, place.seed]
    key = place.run_stage(directory.name, inputs, make)
    system = GmmSystem.load(directory)
    note_alignments(place, "gmm", system.alignments)
    return AlignedSpeech(system.alignments, system.hmm, system.hmm, key)


def with_one_state_a_phone(place: Workplace, aligned: AlignedSpeech) -> AlignedSpeech:
    """Tied states for fewer outputs than frames, and for LF-MMI; the others stay as they are."""
    if not place.settings.has_chain:
        return aligned
    directory = place.work / "chain"

    def make(target: Path) -> None:
        feats, alignments = place.gmm_feats, aligned.alignments.alignments
        items = ((feats[name], path) for name, path in alignments.items())
        chain_hmm(aligned.aligner, items, place.settings.chain).save(target / "hmm.json")

    key = place.run_stage(directory.name, [aligned.key, place.settings.chain], make)
    return AlignedSpeech(aligned.alignments, aligned.aligner, HmmModel.load(directory / "hmm.json"), key)


def realign(
    place: Workplace, aligned: AlignedSpeech, network: AcousticNetwork, log_prior: Tensor, name: str, *, key: str
) -> AlignedSpeech:
    """Align the original speech with the network that was trained last.

    Args:
        place: where the model is built.
        aligned: the alignments that the network learnt from.
        network: with an output for every frame.
        log_prior: (V,) of the tied states.
        name: of this round.
        key: of the stage that trained the network.
    """
    directory = place.work / f"alignments-{name}"

    def make(target: Path) -> None:
        align_by_network(place, aligned.hmm, network, log_prior, title=f"realigning, round {name}").save(target)

    place.run_stage(directory.name, key, make)
    realigned = AlignmentSet.load(directory)
    note_alignments(place, f"realignment-{name}", realigned)
    return AlignedSpeech(realigned, aligned.aligner, aligned.hmm, aligned.key)


def align_by_network(
    place: Workplace, hmm: HmmModel, network: AcousticNetwork, log_prior: Tensor, *, title: str
) -> AlignmentSet:
    """Align the original speech.

    Args:
        place: where the model is built.
        hmm: whose tied states the network gives.
        network: with an output for every frame.
        log_prior: (V,) of the tied states.
        title: of the progress bar.
    """
    originals = [utterance.id for utterance in place.speech.as_recorded(place.inputs.manifest)]
    feats = {name: place.speech.feats[name] for name in originals}
    items = track(_log_likes(network, log_prior, feats, num_jobs=place.num_jobs), title, total=len(feats))
    aligner = ForcedAligner(hmm, place.inputs.lexicon)
    return aligner.align_all(items, place.inputs.manifest.transcripts, num_jobs=place.num_jobs)


def note_alignments(place: Workplace, name: str, alignments: AlignmentSet) -> None:
    """Tell how many utterances could not be aligned, and the first of them by name.

    Raises:
        AlignmentError: these are more than half of them.
    """
    num_failed = len(alignments.failed)
    total = num_failed + len(alignments.alignments)
    share = num_failed / max(total, 1)
    place.facts[name] = {
        "failed_alignments": num_failed,
        "failed_share": round(share, 5),
        "log_like_per_frame": round(alignments.log_like_per_frame, 4),
    }
    logger.info("%s: %d of %d alignments failed (%.2f %%)", name, num_failed, total, 100 * share)
    if not num_failed:
        return
    example, reason = next(iter(alignments.failed.items()))
    if share > 0.5:
        raise AlignmentError(f"{num_failed} of {total} utterances cannot be aligned, such as {example!r}: {reason}")
    names = first_few([repr(utterance) for utterance in alignments.failed])
    logger.warning("%s: left out: %s; %r cannot be aligned: %s", name, names, example, reason)


def _log_likes(
    network: AcousticNetwork, log_prior: Tensor, feats: Mapping[str, NDArray[np.float32]], *, num_jobs: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for utterance, matrix in feats.items():
        with one_thread(when=num_jobs > 1), torch.inference_mode():
            log_likes = (log_probs_of(network, torch.from_numpy(matrix)[None])[0] - log_prior).numpy()
        yield utterance, log_likes
