"""Training a gate for a finished model: alignments, voices, projections, then the gate, stage by stage; resumable.

DIRECTORY/condition.json, condition.safetensors   the gate (`lhuc_asr.conditioning.conditioner`)
DIRECTORY/model/                                  where the network was trained along: the only model of the gate
DIRECTORY/speakers/                               what it predicts for the speakers it learnt from, as profiles
DIRECTORY/work/                                   features, alignments where they had to be made, checkpoints
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np
import torch

from lhuc_asr.conditioning.conditioner import Conditioner, save_conditioner, shrink_frames
from lhuc_asr.conditioning.description import VoiceDescriber, learn_describer
from lhuc_asr.conditioning.embedding import VoiceEmbedding
from lhuc_asr.conditioning.embedding_training import EmbeddingReport, EmbeddingTraining
from lhuc_asr.conditioning.gate_speech import GateSpeech
from lhuc_asr.conditioning.network import ConditionedNetwork, row_sites
from lhuc_asr.conditioning.people import KnownVectors, Nobody, Who, require_known, told_unknown
from lhuc_asr.conditioning.projection import Projection
from lhuc_asr.conditioning.report import GateReport, HearingScores
from lhuc_asr.conditioning.scale_fitting import Factors, fit_gate, known_scales, require_fittable
from lhuc_asr.conditioning.settings import ConditionConfig, VectorKind
from lhuc_asr.conditioning.sources import learn_known, listeners_of, require_file_or_none
from lhuc_asr.conditioning.table import SpeakerTable, nobodys
from lhuc_asr.conditioning.training_speakers import SPEAKERS, TrainingSpeakers
from lhuc_asr.conditioning.voice_task import HeardFrames, Hearer, VoiceTask
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.perturbation import PerturbationConfig
from lhuc_asr.lang.arpa import read_arpa
from lhuc_asr.lhuc.gate import Gate
from lhuc_asr.lhuc.sites import LhucConfig, Site
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.progress import track
from lhuc_asr.system.model_directory import AcousticSystem, SystemParts, write_system
from lhuc_asr.system.sites import proved_sites
from lhuc_asr.training.loop import train
from lhuc_asr.training.tasks.evaluation import FrameScore

logger = logging.getLogger(__name__)

_DRAWS = 3
"""Every training utterance is described so often, each time in another voice, before projections are learnt."""


@dataclass(frozen=True, kw_only=True)
class GateTraining:
    """Trains a gate.

    Attributes:
        system: the model.
        manifest: transcribed speech of many speakers.
        config: of the gate and its training.
        lhuc: which layers are scaled; the gate's own range takes the place of the amplitude, which is that of the
            training speakers' profiles.
        perturbation: further voices, made of the waveforms.
        directory: where everything goes.
        data: directory of the speech, where tables tell of its speakers.
        scales: store of the training speakers' profiles, to which the gate is fitted in place of learning from frames.
        valid_fraction: share of the speakers that are held out. With the model's own fraction and seed they are those
            whom the network has not learnt from either.
        seed: of everything random.
        num_jobs: processes.
    """

    system: AcousticSystem
    manifest: Manifest
    config: ConditionConfig
    directory: Path
    data: Path = Path()
    scales: Path | None = None
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
        embedding, told_apart = self._embedding()
        describe, table = self._describer_and_table(embedding)
        torch.manual_seed(self.seed)
        gate = Gate.for_sites(self.sites, describe.parts, self.config.gate)
        base = copy.deepcopy(self.system.network)
        network = ConditionedNetwork(base, self.sites, gate, table=table, trains_base=self.config.joint)
        hearer = Hearer(describe, self._speech.states, base.context, table.row_of if table else nobodys)
        task = self._task(hearer)
        groups = {name: hearer(map(self._speech.voices.recorded, names)) for name, names in self._speech.groups.items()}
        with network.attached():
            alone = {name: task.score_of(network, frames.unheard()) for name, frames in groups.items()}
            learnt = self._learn(network, task)
            scores = {name: self._scores(task, network, frames, alone[name]) for name, frames in groups.items()}
        report = GateReport(held_out=scores["held_out"], met=scores.get("met"), embedding=told_apart, **learnt)
        gate.requires_grad_(False).eval()
        base.requires_grad_(False).eval()
        if table is not None:
            describe = describe.knowing({VectorKind.table.name: table.learnt()})
        fingerprint = self._write_model(base) if self.config.joint else self.system.fingerprint
        conditioner = Conditioner(fingerprint, self.sites, describe, gate, self.config, report.plain())
        save_conditioner(conditioner, self.directory)
        self._write_speakers(conditioner, base)
        return conditioner, report

    def _learn(self, network: ConditionedNetwork, task: VoiceTask) -> dict[str, Any]:
        """From frames, or from known scales; what the report says of it."""
        if self.scales is None:
            work = self.directory / "work" / "gate"
            return {"training": train(network, task, self.config.training, work, seed=self.seed)}
        voices = (self._speech.voices.recorded(name) for name in self._speech.training)
        heard = [voice for voice in voices if voice.speaker in self._scales]
        describe = task.hearer.describe
        z_NK = torch.from_numpy(np.stack([describe(voice.raw, [voice.who]) for voice in heard]))
        speakers = [voice.speaker for voice in heard]
        return {"fit": fit_gate(network.gate, z_NK, speakers, self._scales, noise=self.config.noise)}

    @cached_property
    def _scales(self) -> dict[str, Factors]:
        """Of speakers to learn from."""
        assert self.scales is not None
        if self.config.joint or VectorKind.table in self.config.vectors:
            raise ConfigError(
                "known scales (--scales) are of a finished network and say nothing of a table of speakers: give them "
                "with condition.joint=false and other condition.vectors"
            )
        require_fittable(self.config.gate.hidden_dims)
        speakers = self._speech.speakers.kept.speakers
        return known_scales(self.scales, speakers, self.sites, fingerprint=self.system.fingerprint)

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

    def _write_speakers(self, conditioner: Conditioner, network: AcousticNetwork) -> None:
        speakers = TrainingSpeakers(
            conditioner=conditioner,
            network=network,
            sites=self._proved_sites,
            amplitude=self.lhuc.amplitude,
            speech=self._speech.feats,
            manifest=self._speech.feats.as_recorded(self._speech.speakers.kept),
            frame_shift_ms=self.system.features.frame_shift_ms,
        )
        speakers.write(self.directory / SPEAKERS)

    @property
    def sites(self) -> tuple[Site, ...]:
        """What is scaled, proved to act."""
        return row_sites(self._proved_sites)

    @cached_property
    def _proved_sites(self) -> tuple[Site, ...]:
        return proved_sites(self.system.network, self.lhuc.layers)

    @cached_property
    def _speech(self) -> GateSpeech:
        return GateSpeech(
            system=self.system,
            manifest=self.manifest,
            config=self.config,
            perturbation=self.perturbation,
            work=self.directory / "work",
            valid_fraction=self.valid_fraction,
            seed=self.seed,
            num_jobs=self.num_jobs,
        )

    def check(self) -> None:
        """Raise what can be known before anything is computed or written.

        Raises:
            ConfigError: the network does not learn from frames, or not from features as they are; a file of vectors
                is wanted and not named.
            DataError: speech has no transcripts; a file of vectors or a table is missing or wrong.
            SpeakerError: there are fewer than two speakers.
            SiteError: a layer does not exist or does not act.
        """
        require_file_or_none(self.config, wanted=VectorKind.file in self.config.vectors)
        self.system.require_plain_frames("a gate")
        self.manifest.require_transcripts()
        if self.scales is not None:
            logger.info("a gate is fitted to the scales of %d speakers", len(self._scales))
        if self._known:
            logger.info("known of speakers before they are heard: %s", ", ".join(self._known))
        logger.info("%d sites proved to act: %s", len(self.sites), ", ".join(site.name for site in self.sites))

    @cached_property
    def _known(self) -> dict[str, KnownVectors]:
        """What is known of speakers without hearing them, learnt from those who are not held out."""
        people = _people(self._speech.speakers.kept)
        known = learn_known(self.config, self.data, people)
        require_known(known, people, held_out=_people(self._speech.speakers.held_out))
        for line in told_unknown(known, _people(self.manifest)):
            logger.warning(line)
        return known

    def _embedding(self) -> tuple[VoiceEmbedding | None, EmbeddingReport | None]:
        """The trained embedding, if there is one, and how well it tells speakers apart."""
        if VectorKind.embedding not in self.config.vectors:
            return None, None
        speech, split = self._speech, self._speech.split
        return EmbeddingTraining(
            voices=speech.voices_of(speech.aligned(speech.feats.made_from(split.kept))),
            held_out=speech.aligned(speech.feats.as_recorded(split.held_out)),
            strangers=speech.groups["held_out"],
            features=self.system.features,
            config=self.config.embedding,
            warp=self.config.warp,
            directory=self.directory / "work" / "embedding",
        ).run()

    def _describer_and_table(self, embedding: VoiceEmbedding | None) -> tuple[VoiceDescriber, SpeakerTable | None]:
        """What describes voices, and the table of speakers that is learnt along, if there is one."""
        config, voices = self.config, self._speech.voices
        listeners = listeners_of(config, self.system.features, embedding)
        num_draws = _DRAWS if config.warp and listeners else 1
        draws = [(name, draw) for draw in range(num_draws) for name in voices.utterances]
        describe = learn_describer(
            listeners,
            (voices.voice(name, draw) for name, draw in track(draws, "listening to voices")),
            config.projection,
            shrink_frames=shrink_frames(config, self.system.features),
            known=self._known,
        )
        if VectorKind.table not in config.vectors:
            return describe, None
        speakers = sorted({voices.who(name).speaker for name in voices.utterances})
        start, width = sum(describe.parts.values()), config.table.num_dims
        table = SpeakerTable(speakers, width, start=start, seed=self.seed)
        return describe.with_known(VectorKind.table.name, Nobody(width), Projection.identity(width)), table

    def _scores(
        self, task: VoiceTask, network: ConditionedNetwork, frames: HeardFrames, without: FrameScore
    ) -> HearingScores:
        return HearingScores(
            without=without,
            average=task.score_of(network, frames.unheard()),
            heard=task.score_of(network, frames),
            num_speakers=len({self._speech.feats.manifest.speaker_of[name] for name in frames.data.utterances}),
        )

    def _task(self, hearer: Hearer) -> VoiceTask:
        validation = [name for names in self._speech.groups.values() for name in names]
        return VoiceTask(
            self._speech.voices,
            hearer,
            hearer(map(self._speech.voices.recorded, validation)),
            batch_size=self.config.training.batch_size,
            noise=self.config.noise,
            dropout=self.config.dropout,
            label_smoothing=self.config.training.label_smoothing,
        )


def _people(manifest: Manifest) -> list[Who]:
    return [Who(utterance.id, utterance.speaker) for utterance in manifest]
