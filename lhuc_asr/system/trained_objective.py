"""What a network of scores was trained by, in the model directory: adaptation can only go on with what training knew.

objective.json        priors of the tied states, the denominator's phone n-grams and its settings, sealed

LF-MMI gives scores in which states have no priors, so ``log_prior`` of the model directory is zero. Cross-entropy on
such outputs needs the priors back (`TrainedObjective.log_prior`), and LF-MMI needs its denominator. The file is no part
of the fingerprint: it says nothing of what the model recognises.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.decoding.ctc_graph import is_ctc
from lhuc_asr.errors import ModelError
from lhuc_asr.files import sha256
from lhuc_asr.hmm.alignment import Alignment, AlignmentSet
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.system.lessons import tied_states
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.settings import canonical, from_plain, read_sealed, to_plain, write_sealed
from lhuc_asr.training.criteria.lfmmi.numerator import PhoneSegments
from lhuc_asr.training.criteria.lfmmi.objective import LfMmiConfig
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLm, PhoneLmConfig
from lhuc_asr.training.priors import log_state_priors

VERSION = 1
_FILE = "objective.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedObjective:
    """What LF-MMI training knew beside the network.

    Attributes:
        log_prior: (V,) natural logarithms of the tied states' shares of the training speech.
        phone_lm: phone n-grams of the denominator.
        lfmmi: leak and regulariser.
    """

    log_prior: Tensor
    phone_lm: PhoneLm
    lfmmi: LfMmiConfig = field(default_factory=LfMmiConfig)

    @staticmethod
    def of_alignments(
        alignments: Mapping[str, Alignment],
        aligner: HmmModel,
        hmm: HmmModel,
        *,
        phone_lm: PhoneLmConfig | None = None,
        lfmmi: LfMmiConfig | None = None,
    ) -> TrainedObjective:
        """Count states and phones.

        Args:
            alignments: utterance id -> (T,) transition ids of ``aligner``.
            aligner: the model that aligned the training speech.
            hmm: the model whose tied states the network gives.
            phone_lm: size of the phone model.
            lfmmi: settings of the loss.

        Raises:
            DataError: there are no alignments.
        """
        paths = alignments.values()
        said = (PhoneGraph.of_phones(PhoneSegments.of_alignment(aligner, path).phones) for path in paths)
        return TrainedObjective(
            log_prior=log_state_priors((tied_states(path, aligner, hmm) for path in paths), hmm.num_pdfs),
            phone_lm=PhoneLm.estimate(said, phone_lm),
            lfmmi=lfmmi or LfMmiConfig(),
        )

    @cached_property
    def sha256(self) -> str:
        """The same for equal counts and settings."""
        return hashlib.sha256(canonical(self.plain()).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "log_prior": self.log_prior.double().tolist(),
            "phone_lm": [[list(history), list(map(list, said.items()))] for history, said in _sorted(self.phone_lm)],
            "lfmmi": to_plain(self.lfmmi),
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any], *, source: str) -> TrainedObjective:
        """What `plain` gave; ``source`` is where it was read, for messages.

        Raises:
            ModelError: a part is missing or cannot be used.
        """
        try:
            ngrams = {tuple(history): dict(said) for history, said in plain["phone_lm"]}
            return TrainedObjective(
                log_prior=torch.tensor(plain["log_prior"], dtype=torch.float32),
                phone_lm=PhoneLm(ngrams),
                lfmmi=from_plain(LfMmiConfig, plain["lfmmi"], source=source),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"'{source}' holds no objective that this version can use: {error!r}") from error


def gives_scores(system: AcousticSystem) -> bool:
    """Whether outputs are scores without priors, as LF-MMI learns them, and not posteriors of states or labels."""
    return not bool(system.log_prior.any()) and not is_ctc(system.hmm)


def objective_path(directory: Path) -> Path:
    """Where the objective of a model directory lies."""
    return directory / _FILE


def write_objective(directory: Path, objective: TrainedObjective, *, fingerprint: str) -> None:
    """Put it into a model directory, whole or not at all.

    Args:
        directory: of the model.
        objective: what was counted.
        fingerprint: of the model.
    """
    write_sealed(objective_path(directory), {"version": VERSION, "fingerprint": fingerprint, **objective.plain()})


def read_objective(system: AcousticSystem) -> TrainedObjective | None:
    """What the network was trained by.

    Model directories that were written before this file existed get it from the training alignments below ``work``, all
    of them, also those of held-out speakers; that is told, and nothing is written.

    Returns:
        None where outputs have priors, or where nothing is known.

    Raises:
        ModelError: the file was altered, is of a newer format, or of another model.
    """
    if not gives_scores(system):
        return None
    path = objective_path(system.directory)
    if not path.is_file():
        return _counted_again(system)
    page = read_sealed(path, version=VERSION)
    if page.get("fingerprint") != system.fingerprint:
        raise ModelError(f"'{path}' belongs to another model; delete it and run lhuc-train again")
    return TrainedObjective.from_plain(page, source=str(path))


def _counted_again(system: AcousticSystem) -> TrainedObjective | None:
    """From what training left behind, where it made the same tied states."""
    work, hmm = system.directory / "work", system.directory / "hmm.json"
    made = [path for path in (work / "chain" / "hmm.json", work / "gmm" / "hmm.json") if path.is_file()]
    if not made or sha256(made[0]) != sha256(hmm):
        return None
    aligner, alignments = HmmModel.load(work / "gmm" / "hmm.json"), AlignmentSet.load(work / "gmm").alignments
    logger.warning(
        "'%s' has no %s: priors of states and phone n-grams are counted from the %d alignments below '%s' instead; "
        "lhuc-train with the same settings writes the file",
        system.directory,
        _FILE,
        len(alignments),
        work / "gmm",
    )
    return TrainedObjective.of_alignments(alignments, aligner, system.hmm)


def _sorted(lm: PhoneLm) -> list[tuple[tuple[int, ...], Mapping[int, float]]]:
    return sorted(lm.log_probs.items())
