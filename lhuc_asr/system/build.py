"""From transcribed speech to a model directory, stage by stage; a second run does only what is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import DataError, first_few
from lhuc_asr.files import read_json, write_json
from lhuc_asr.system.build_settings import BuildInputs, BuildSettings
from lhuc_asr.system.model_directory import AcousticSystem, load_system
from lhuc_asr.system.stage import costs
from lhuc_asr.system.stages.hybrid import learn_tied_states
from lhuc_asr.system.stages.labelling import learn_labels
from lhuc_asr.system.stages.learning import Learnt
from lhuc_asr.system.stages.sequence import learn_from_lattices
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.system.stages.writing import REPORT, keep_objective, write_model
from lhuc_asr.training.criteria.criterion import CriterionKind

logger = logging.getLogger(__name__)

_LEARNING: dict[CriterionKind, Callable[[Workplace], Learnt]] = {
    CriterionKind.cross_entropy: learn_tied_states,
    CriterionKind.lfmmi: learn_tied_states,
    CriterionKind.ctc: learn_labels,
    CriterionKind.smbr: learn_from_lattices,
}


def build_system(
    inputs: BuildInputs, settings: BuildSettings, directory: Path, *, seed: int = 0, num_jobs: int = 1
) -> AcousticSystem:
    """Train a speaker-independent hybrid model and write it as a model directory.

    The stages keep their results below ``directory/work``; ``directory/build.json`` tells what they gave.

    Raises:
        DataError: there is no transcribed speech, or nothing is said in any of it.
        AlignmentError: hardly any utterance could be aligned.
    """
    _check_transcripts(inputs.manifest)
    place = Workplace(inputs=inputs, settings=settings, work=directory / "work", seed=seed, num_jobs=num_jobs)
    learnt = _LEARNING[settings.criterion.kind](place)
    write_model(place, learnt, directory)
    keep_objective(place, learnt, directory)
    note_costs(directory, place.stages)
    return load_system(directory)


def _check_transcripts(manifest: Manifest) -> None:
    """Every utterance needs a transcript; those without a word are told."""
    manifest.require_transcripts()
    transcripts, num_utterances = manifest.transcripts, len(manifest)
    empty = [name for name, text in transcripts.items() if not text.split()]
    if len(empty) == num_utterances:
        raise DataError(f"training needs words: the transcripts of all {num_utterances} utterances are empty")
    if empty:
        told = "%d of %d utterances have an empty transcript and are taken for silence: %s"
        logger.warning(told, len(empty), num_utterances, first_few([repr(name) for name in empty]))


def note_costs(directory: Path, stages: Iterable[str]) -> None:
    """Tell in ``build.json`` what these stages took, beside those that were noted since the model was written.

    Minutes are those of the run that did the stage, and so is the memory of the largest process, which is counted from
    the start of that run; features are taken before the stages and are not in their minutes.
    """
    page = read_json(directory / REPORT)
    found = costs(directory / "work", stages)
    minutes = page.get("minutes", {}) | {name: round(cost.seconds / 60, 2) for name, cost in found.items()}
    known = {name: cost.peak_memory_gb for name, cost in found.items() if cost.peak_memory_gb is not None}
    memory = {name: most for name, most in (page.get("peak_memory_gb", {}) | known).items() if name != "all"}
    noted = {
        "minutes": dict(sorted(minutes.items())),
        "peak_memory_gb": {**dict(sorted(memory.items())), "all": max(memory.values())} if memory else {},
    }
    if any(page.get(name) != value for name, value in noted.items()):
        write_json(directory / REPORT, {**page, **noted})
