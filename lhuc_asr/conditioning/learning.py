"""Training a gate for a finished model: alignments, voices, projections, then the gate, stage by stage; resumable.

DIRECTORY/condition.json, condition.safetensors   the gate (`lhuc_asr.conditioning.conditioner`)
DIRECTORY/model/                                  where the network was trained along: the only model of the gate
DIRECTORY/work/                                   features, alignments where they had to be made, checkpoints
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import kaldifst
import torch

from lhuc_asr.conditioning.alignments import aligned_speech
from lhuc_asr.conditioning.conditioner import Conditioner, listeners_of, save_conditioner, shrink_frames
from lhuc_asr.conditioning.description import VoiceDescriber, learn_describer
from lhuc_asr.conditioning.network import ConditionedNetwork, row_sites
from lhuc_asr.conditioning.settings import ConditionConfig
from lhuc_asr.conditioning.voice_task import HeardFrames, VoiceTask
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.data.splits import hold_out_speakers
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.perturbation import PerturbationConfig
from lhuc_asr.lang.arpa import read_arpa
from lhuc_asr.lhuc.gate import Gate
from lhuc_asr.lhuc.sites import LhucConfig, Site
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.progress import track
from lhuc_asr.system.model_directory import AcousticSystem, SystemParts, write_system
from lhuc_asr.system.sites import proved_sites
from lhuc_asr.system.training_speech import TrainingSpeech, training_feats
from lhuc_asr.training.evaluation import FrameScore
from lhuc_asr.training.loop import TrainingReport, train

logger = logging.getLogger(__name__)

_DRAWS = 3
"""Every training utterance is described so often, each time in another voice, before projections are learnt."""


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What training gave, measured on held-out speakers.

    Attributes:
        without: the network alone.
        average: with the gate, every voice taken for the average one: what is gained without listening.
        heard: with the gate, every utterance heard.
        num_speakers: who were held out.
        training: of the gate.
    """

    without: FrameScore
    average: FrameScore
    heard: FrameScore
    num_speakers: int
    training: TrainingReport

    @property
    def helps(self) -> bool:
        """Whether held-out speakers gain by being heard."""
        return self.heard.loss < min(self.without.loss, self.average.loss)

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        scores = {name: asdict(getattr(self, name)) for name in ("without", "average", "heard")}
        return {
            "held_out": {**scores, "num_speakers": self.num_speakers},
            "best_epoch": self.training.best_epoch,
            "seconds": round(self.training.seconds, 1),
        }

    def __str__(self) -> str:
        shown = (self.without, self.average, self.heard)
        losses = " -> ".join(f"{score.loss:.4f}" for score in shown)
        accuracies = " -> ".join(f"{100 * score.accuracy:.2f}" for score in shown)
        return (
            f"{self.num_speakers} held-out speakers, network alone -> average voice -> heard: "
            f"loss {losses}, frame accuracy {accuracies} %"
        )


@dataclass(frozen=True, kw_only=True)
class GateTraining:
    """Trains a gate.

    Attributes:
        system: the model.
        manifest: transcribed speech of many speakers.
        config: of the gate and its training.
        lhuc: which layers are scaled; the gate's own range takes the place of the amplitude.
        perturbation: further voices, made of the waveforms.
        directory: where everything goes.
        valid_fraction: share of the speakers that are held out. With the model's own fraction and seed they are those
            whom the network has not learnt from either.
        seed: of everything random.
        num_jobs: processes.
    """

    system: AcousticSystem
    manifest: Manifest
    config: ConditionConfig
    directory: Path
    lhuc: LhucConfig = field(default_factory=LhucConfig)
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    valid_fraction: float = 0.05
    seed: int = 0
    num_jobs: int = 1

    def run(self) -> tuple[Conditioner, GateReport]:
        """Train, and write the gate.

        Raises:
            ConfigError: the network does not learn from frames, or its features cannot be warped.
            SiteError: a layer does not exist or does not act.
            DataError: there is too little transcribed speech.
            AlignmentError: not one utterance can be aligned.
        """
        self.check()
        describe = self._learn_describer()
        torch.manual_seed(self.seed)
        gate = Gate.for_sites(self.sites, describe.parts, self.config.gate)
        base = copy.deepcopy(self.system.network)
        network = ConditionedNetwork(base, self.sites, gate, trains_base=self.config.joint)
        task = self._task(describe)
        with network.attached():
            without = task.score_of_average(network)
            training = train(network, task, self.config.training, self.directory / "work" / "gate", seed=self.seed)
            average, heard = task.score_of_average(network), task.score(network)
        gate.requires_grad_(False).eval()
        base.requires_grad_(False).eval()
        report = GateReport(
            without=without,
            average=average,
            heard=heard,
            num_speakers=len({self.speech.manifest.speaker_of[name] for name in self._validation}),
            training=training,
        )
        fingerprint = self._write_model(base) if self.config.joint else self.system.fingerprint
        conditioner = Conditioner(fingerprint, self.sites, describe, gate, self.config, report.plain())
        save_conditioner(conditioner, self.directory)
        return conditioner, report

    def _write_model(self, network: AcousticNetwork) -> str:
        """The model directory of a network that was trained along with its gate; its fingerprint."""
        parts = SystemParts(
            network=network,
            log_prior=self.system.log_prior,
            features=self.system.features,
            hmm=self.system.hmm,
            lexicon=self.system.lexicon,
            lm=read_arpa(self.system.lm_path),
            graph=kaldifst.StdVectorFst.read(str(self.system.graph_path)),
            decoding=self.system.decoding,
        )
        return write_system(self.directory / "model", parts).fingerprint

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """What is scaled, proved to act."""
        return row_sites(proved_sites(self.system.network, self.lhuc.layers))

    @cached_property
    def speech(self) -> TrainingSpeech:
        """The speech, and what is made of it."""
        return training_feats(
            self.manifest,
            self.system.features,
            self.perturbation,
            self.directory / "work" / "features",
            seed=self.seed,
            num_jobs=self.num_jobs,
        )

    def check(self) -> None:
        """Raise what can be known before anything is computed or written.

        Raises:
            ConfigError: the network does not learn from frames, or learnt from transformed features.
            DataError: speech has no transcripts.
            SiteError: a layer does not exist or does not act.
        """
        if self.system.wants_transforms:
            raise ConfigError(
                f"the model '{self.system.directory}' was trained on transformed features (fmllr); "
                "scales are predicted for models of features as they are"
            )
        if not self.system.network.learns_from_frames:
            raise ConfigError(
                f"a gate is trained on frames; a network of kind {self.system.network.config.kind.name} learns from "
                "whole utterances. Possible: dnn, cnn, maxout"
            )
        num_transcripts, num_utterances = len(self.manifest.transcripts), len(self.manifest)
        if num_transcripts < num_utterances or not num_utterances:
            raise DataError(f"training needs transcripts: {num_transcripts} of {num_utterances} utterances have one")
        logger.info("%d sites proved to act: %s", len(self.sites), ", ".join(site.name for site in self.sites))

    @cached_property
    def _states(self) -> dict[str, Any]:
        aligned = aligned_speech(self.system, self.manifest, self.directory / "work", num_jobs=self.num_jobs)
        return aligned.states(self.speech, self.system.hmm)

    @cached_property
    def _training(self) -> list[str]:
        parts = hold_out_speakers(self.manifest, fraction=self.valid_fraction, seed=self.seed)
        return self._aligned(self.speech.made_from(parts.kept))

    @cached_property
    def _validation(self) -> list[str]:
        parts = hold_out_speakers(self.manifest, fraction=self.valid_fraction, seed=self.seed)
        return self._aligned(self.speech.as_recorded(parts.held_out))

    def _aligned(self, part: Manifest) -> list[str]:
        names = [utterance.id for utterance in part if utterance.id in self._states]
        if not names:
            raise DataError(f"none of {len(part)} utterances of {len(part.speakers)} speakers is aligned")
        return names

    @cached_property
    def _voices(self) -> TrainingVoices:
        return TrainingVoices(
            self.speech,
            self.system.features,
            self._training,
            warp=self.config.warp,
            frames_per_epoch=self.config.frames_per_epoch,
            seed=self.seed,
        )

    def _learn_describer(self) -> VoiceDescriber:
        config, voices = self.config, self._voices
        draws = [(name, draw) for draw in range(_DRAWS if config.warp else 1) for name in voices.utterances]
        return learn_describer(
            listeners_of(config, self.system.features),
            (voices.voice(name, draw) for name, draw in track(draws, "listening to voices")),
            config.projection,
            shrink_frames=shrink_frames(config, self.system.features),
        )

    def _task(self, describe: VoiceDescriber) -> VoiceTask:
        names: Sequence[str] = self._validation
        z = {name: describe(self.speech.feats.raw[name]) for name in names}
        context = self.system.network.context
        return VoiceTask(
            self._voices,
            describe,
            self._states,
            HeardFrames.gather(names, self.speech.feats, z, self._states, context=context),
            batch_size=self.config.training.batch_size,
            noise=self.config.noise,
            dropout=self.config.dropout,
            label_smoothing=self.config.training.label_smoothing,
        )
