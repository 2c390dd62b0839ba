"""Networks that learn tied states from aligned speech, by cross-entropy or LF-MMI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.hmm.graphs.graph import build_graph
from lhuc_asr.hmm.stretching import stretch_all
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.system.lessons import Lessons, make_task, tied_states
from lhuc_asr.system.stages.aligning import AlignedSpeech, align_by_gmm, realign, with_one_state_a_phone
from lhuc_asr.system.stages.kept_alignments import aligned_with
from lhuc_asr.system.stages.learning import Learnt, Trained, augmentation, train_network
from lhuc_asr.system.stages.projecting import project_features
from lhuc_asr.system.stages.speakers import adapt_gmm_to_speakers, seen_as_by
from lhuc_asr.system.stages.starting import finished_model, train_on
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.system.trained_objective import TrainedObjective
from lhuc_asr.training.criteria.criterion import CriterionKind
from lhuc_asr.training.priors import log_state_priors
from lhuc_asr.training.tasks.task import Task


def learn_tied_states(place: Workplace) -> Learnt:
    """Train a network of tied states, from random weights or those of a finished model."""
    return _go_on(place) if place.settings.criterion.start else _begin(place)


def _go_on(place: Workplace) -> Learnt:
    """Train the network of a finished model on; there is no GMM."""
    start = finished_model(place, place.inputs.lexicon)
    place = seen_as_by(place, start)
    aligned = aligned_with(place, start)
    learnt = train_on(place, start, _lesson_maker(place, aligned), keys=[aligned.key])
    return replace(learnt, objective=_objective_maker(place, aligned))


def _begin(place: Workplace) -> Learnt:
    """Align by a GMM, train the network; align with it and train another one as often as is asked for."""
    settings, lexicon = place.settings, place.inputs.lexicon
    aligned, speaker_gmm = align_by_gmm(place), None
    if settings.lda.is_used:
        projected = project_features(place, aligned)
        place, aligned = projected.place, projected.aligned
    if settings.fmllr.is_used:
        speakers = adapt_gmm_to_speakers(place, aligned)
        place, aligned, speaker_gmm = speakers.place, speakers.aligned, speakers.gmm
    aligned = with_one_state_a_phone(place, aligned)
    trained = _train(place, aligned)
    for number in range(1, settings.build.num_realignments + 1):
        prior = _log_prior(place, aligned)
        aligned = realign(place, aligned, trained.network, prior, str(number), key=trained.key)
        trained = _train(place, aligned, number, previous=trained.key)
    return Learnt(
        network=trained.network,
        log_prior=_log_prior(place, aligned),
        hmm=aligned.hmm,
        lexicon=lexicon,
        graph=lambda lm: build_graph(aligned.hmm, lexicon, lm, settings.graph),
        key=trained.key,
        scales=trained.scales,
        objective=_objective_maker(place, aligned),
        projection=place.projection,
        speaker_gmm=speaker_gmm,
    )


def _train(place: Workplace, aligned: AlignedSpeech, number: int = 0, *, previous: str = "") -> Trained:
    task, keys = _lesson_maker(place, aligned), [aligned.key, previous]
    return train_network(place, aligned.hmm.num_pdfs, task, keys=keys, name=f"network-{number}")


def _lesson_maker(place: Workplace, aligned: AlignedSpeech) -> Callable[[AcousticNetwork], Task[Any]]:
    settings = place.settings

    def task(network: AcousticNetwork) -> Task[Any]:
        return make_task(
            lessons(place, aligned),
            network,
            settings.criterion,
            settings.training,
            seed=place.seed,
            augment=augmentation(place),
        )

    return task


def lessons(place: Workplace, aligned: AlignedSpeech) -> Lessons:
    """The speech with its alignments, which what was made from it takes over."""
    speech = place.speech
    carried = stretch_all(aligned.alignments, speech.source, speech.num_frames).alignments
    return Lessons(
        speech=speech,
        alignments=carried,
        aligner=aligned.aligner,
        hmm=aligned.hmm,
        training=[name for name in place.training_ids if name in carried],
        validation=[name for name in place.validation_ids if name in carried],
    )


def _objective_maker(place: Workplace, aligned: AlignedSpeech) -> Callable[[], TrainedObjective] | None:
    """Where adaptation must know more than the network."""
    return (lambda: _objective(place, aligned)) if place.settings.criterion.kind is CriterionKind.lfmmi else None


def _objective(place: Workplace, aligned: AlignedSpeech) -> TrainedObjective:
    """What LF-MMI counted before it began: the same phone n-grams, of the same utterances."""
    learnt, criterion = lessons(place, aligned), place.settings.criterion
    return TrainedObjective.of_alignments(
        {name: learnt.alignments[name] for name in learnt.training},
        learnt.aligner,
        learnt.hmm,
        phone_lm=criterion.phone_lm,
        lfmmi=criterion.lfmmi,
    )


def _log_prior(place: Workplace, aligned: AlignedSpeech) -> Tensor:
    """(V,) what is taken from the network's log-probabilities; LF-MMI has learnt scores that need no priors."""
    hmm = aligned.hmm
    if place.settings.criterion.kind is CriterionKind.lfmmi:
        return torch.zeros(hmm.num_pdfs)
    paths = aligned.alignments.alignments.values()
    return log_state_priors((tied_states(path, aligned.aligner, hmm) for path in paths), hmm.num_pdfs)
