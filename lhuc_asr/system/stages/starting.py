"""Training that begins with a finished model: whether it fits what was asked for, and what of it stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kaldifst

from lhuc_asr.decoding.ctc_graph import is_ctc
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.errors import ConfigError
from lhuc_asr.files import sha256
from lhuc_asr.lang.arpa import read_arpa
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.system.model_directory import AcousticSystem, load_system
from lhuc_asr.system.settings import to_plain
from lhuc_asr.system.stages.learning import Learnt, train_network
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.system.trained_objective import gives_scores, read_objective
from lhuc_asr.training.criteria.criterion import CriterionKind
from lhuc_asr.training.tasks.task import Task

_GOES_ON_FROM = {
    CriterionKind.cross_entropy: {CriterionKind.cross_entropy},
    CriterionKind.lfmmi: {CriterionKind.lfmmi},
    CriterionKind.ctc: {CriterionKind.ctc},
    CriterionKind.smbr: {CriterionKind.cross_entropy, CriterionKind.lfmmi},
}
"""Criterion -> what the outputs of the model that it begins with may be; sMBR leaves them what they were."""


def finished_model(place: Workplace, lexicon: Lexicon) -> AcousticSystem:
    """The model that ``criterion.start`` names, with the search that was asked for.

    Args:
        place: where the new model is built.
        lexicon: words as its decoding graph would spell them.

    Raises:
        ConfigError: it is not of the shape, the features, the words or the criterion that were asked for; the text
            names the settings.
    """
    start = load_system(Path(place.settings.criterion.start))
    where = f"criterion.start '{start.directory}'"
    if start.directory.resolve() == place.work.parent.resolve():
        raise ConfigError(f"{where} would be overwritten by the model that begins with it: choose another --out")
    _require_criterion(place, start, where)
    _require_projection(place, start, where)
    _require_transforms(place, start, where)
    _require_shape(place, start, where)
    _require_words(place, start, lexicon, where)
    asked = place.settings.decoding
    return start if asked == DecodingConfig() else start.searching_with(asked)


def key_of(start: AcousticSystem) -> list[str]:
    """Changes when network, states, language model or graph of the finished model do."""
    return [start.fingerprint, sha256(start.graph_path), sha256(start.lm_path)]


def train_on(
    place: Workplace,
    start: AcousticSystem,
    make_task: Callable[[AcousticNetwork], Task[Any]],
    *,
    keys: Sequence[Any],
) -> Learnt:
    """Train the network of a finished model on; its states, priors, projection, mixtures, words, language model and
    graph stay.

    Args:
        place: where the new model is built.
        start: what `finished_model` gave.
        make_task: what the network is to learn.
        keys: of what the task is made from, beside the speech, and of the finished model.
    """
    trained = train_network(place, start.hmm.num_pdfs, make_task, keys=keys, begin=start.network)
    return Learnt(
        network=trained.network,
        log_prior=start.log_prior,
        hmm=start.hmm,
        lexicon=start.lexicon,
        graph=lambda lm: kaldifst.StdVectorFst.read(str(start.graph_path)),
        key=trained.key,
        scales=trained.scales,
        lm=read_arpa(start.lm_path),
        decoding=start.decoding,
        objective=(lambda: read_objective(start)) if gives_scores(start) else None,
        projection=start.projection,
        speaker_gmm=start.speaker_gmm() if start.wants_transforms else None,
    )


def _require_criterion(place: Workplace, start: AcousticSystem, where: str) -> None:
    asked, found = place.settings.criterion.kind, _criterion_of(start)
    if found not in _GOES_ON_FROM[asked]:
        possible = " or ".join(sorted(kind.name for kind in _GOES_ON_FROM[asked]))
        raise ConfigError(f"{where} was trained by {found.name}; criterion={asked.name} goes on from {possible}")


def _require_projection(place: Workplace, start: AcousticSystem, where: str) -> None:
    asked, found = place.settings.lda, start.projection
    if found is None:
        if asked.is_used:
            raise ConfigError(f"{where} was trained on features without a projection: leave out lda.dim (lda=mllt)")
    elif (asked.dim, asked.context) != (found.dim, found.context):
        raise ConfigError(
            f"{where} was trained on features of {2 * found.context + 1} frames projected to {found.dim} values: "
            f"add lda.dim={found.dim} lda.context={found.context}"
        )


def _require_transforms(place: Workplace, start: AcousticSystem, where: str) -> None:
    if place.settings.fmllr.is_used == start.wants_transforms:
        return
    if start.wants_transforms:
        raise ConfigError(f"{where} was trained on transformed features: add fmllr=sat")
    raise ConfigError(f"{where} was trained without speakers' transforms: leave out fmllr.sat_rounds (fmllr=sat)")


def _criterion_of(start: AcousticSystem) -> CriterionKind:
    """By what its outputs are: labels, scores, or posteriors of tied states."""
    if is_ctc(start.hmm):
        return CriterionKind.ctc
    return CriterionKind.lfmmi if gives_scores(start) else CriterionKind.cross_entropy


def _require_shape(place: Workplace, start: AcousticSystem, where: str) -> None:
    settings = place.settings
    pairs = {"model": (start.network.config, settings.model), "features": (start.features, settings.features)}
    other = [told for name, pair in pairs.items() for told in _differences(name, *map(to_plain, pair))]
    if other:
        raise ConfigError(f"{where} is another model than was asked for: {'; '.join(other)}")


def _require_words(place: Workplace, start: AcousticSystem, lexicon: Lexicon, where: str) -> None:
    there, here = start.lexicon.pronunciations, lexicon.pronunciations
    wrong = sorted(word for word in {*there, *here} if there.get(word) != here.get(word))
    if wrong:
        raise ConfigError(f"{where} has another lexicon: {len(wrong)} words differ, such as {wrong[0]!r}")
    inputs = place.inputs
    if inputs.sentences is not None or inputs.mixed_texts or inputs.arpa is not None:
        raise ConfigError(f"training keeps the language model of {where}: leave out --text, --mix-text and --arpa")


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            yield from _differences(f"{name}.{key}", there.get(key), here.get(key))
    elif there != here:
        yield f"{name} is {there} there, {here} was asked for"
