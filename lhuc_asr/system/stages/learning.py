"""The network: trained once for its task, taken from disk ever after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.features.augmentation import Augmentation
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.files import write_json
from lhuc_asr.hmm.speaker_adaptive import SpeakerAdaptiveGmm
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.models.kinds import build_network
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.weights import load_weights
from lhuc_asr.system.speaker_adaptive import fold_and_save, with_scales
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.system.trained_objective import TrainedObjective
from lhuc_asr.system.trained_scales import TrainedScales
from lhuc_asr.tensors import load_tensors, save_tensors
from lhuc_asr.training.loop import TrainingReport, train
from lhuc_asr.training.tasks.task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class Learnt:
    """What learning gave, for the model directory.

    Attributes:
        network: in evaluation mode.
        log_prior: (V,) what is taken from its log-probabilities.
        hmm: states and transitions.
        lexicon: words as the decoding graph spells them.
        graph: makes the decoding graph for a language model.
        key: of the stage that trained the network.
        lm: the language model, where it is not to be estimated or read.
        decoding: settings of the search, where they are not those that were asked for.
        scales: of the training speakers, where training was speaker-adaptive.
        objective: what adaptation needs to know of the training, where its outputs are scores.
        projection: of the features, where the network learnt from projected ones.
        speaker_gmm: estimates speakers' transforms, where the network learnt from transformed features.
    """

    network: AcousticNetwork
    log_prior: Tensor
    hmm: HmmModel
    lexicon: Lexicon
    graph: Callable[[ArpaModel], Any]
    key: str
    lm: ArpaModel | None = None
    decoding: DecodingConfig | None = None
    scales: TrainedScales | None = None
    objective: Callable[[], TrainedObjective | None] | None = None
    projection: FrameProjection | None = None
    speaker_gmm: SpeakerAdaptiveGmm | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A network.

    Attributes:
        network: in evaluation mode.
        key: of the stage that trained it.
        scales: of the training speakers, where training was speaker-adaptive.
    """

    network: AcousticNetwork
    key: str
    scales: TrainedScales | None = None


def train_network(
    place: Workplace,
    num_outputs: int,
    make_task: Callable[[AcousticNetwork], Task[Any]],
    *,
    keys: Sequence[Any],
    name: str = "network-0",
    begin: AcousticNetwork | None = None,
) -> Trained:
    """Train a network; held-out speakers steer the schedule.

    Args:
        place: where the model is built.
        num_outputs: tied states or labels.
        make_task: what the network is to learn; not called where it has been trained before.
        keys: of what the task is made from, beside the speech.
        name: of the stage.
        begin: a network of the same shape whose weights it begins with; None draws them.
    """
    settings, directory = place.settings, place.work / name
    network = build_network(settings.model, place.feat_dim, num_outputs, seed=place.seed)
    if begin is not None:
        load_weights(network, begin.state_dict(), source="the network to begin with")

    def make(target: Path) -> None:
        task = make_task(network)
        if settings.sat.is_active:
            report = _train_with_scales(place, network, task, target)
        else:
            report = train(network, task, settings.training, target / "training", seed=place.seed)
        save_tensors(network.state_dict(), target / "network.safetensors")
        write_json(target / "history.json", [_rounded(epoch) for epoch in report.history])

    inputs = [*keys, place.speech.key, settings.features, settings.model, settings.training.relevant()]
    inputs += [settings.criterion.relevant(), settings.augmentation, settings.build.valid_fraction, place.seed]
    if settings.sat.is_active:
        inputs.append(settings.sat)
    key = place.run_stage(name, inputs, make, together=True, refuses=True)
    weights = directory / "network.safetensors"
    load_weights(network, load_tensors(weights), source=str(weights))
    return Trained(network.eval(), key, TrainedScales.load(directory) if settings.sat.is_active else None)


def _train_with_scales(place: Workplace, network: AcousticNetwork, task: Task[Any], target: Path) -> TrainingReport:
    """Speaker-adaptive training; the network gets row 0 into its weights."""
    settings, speaker_of = place.settings, place.speech.manifest.speaker_of
    known = {name: speaker_of[name] for name in place.training_ids}
    task, adaptive = with_scales(task, network, known, settings.sat, settings.training, seed=place.seed)
    report = train(network, task, settings.training, target / "training", seed=place.seed)
    fold_and_save(network, adaptive, target)
    return report


def augmentation(place: Workplace) -> Augmentation | None:
    """What varies the features in training, if anything does."""
    settings = place.settings
    if not settings.augmentation.is_active:
        return None
    fbank = settings.features.fbank
    return Augmentation(
        settings.augmentation,
        num_mel_bins=fbank.num_mel_bins,
        sampling_rate=settings.features.sampling_rate,
        low_freq=fbank.low_freq,
        high_freq=fbank.high_freq,
    )


def _rounded(epoch: Any) -> dict[str, float]:
    return {name: round(value, 5) for name, value in asdict(epoch).items()}
