"""From a finished model and its training speech to a file with which lhuc-adapt begins.

DIRECTORY/start.safetensors   start and speeds, as a prior (`lhuc_asr.profiles.prior`)
DIRECTORY/metalearn.json      what held-out speakers say of it
DIRECTORY/work/               features, and alignments where they had to be made
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lhuc_asr.conditioning.alignments import aligned_speech
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.data.splits import hold_out_speakers
from lhuc_asr.errors import first_few
from lhuc_asr.features.perturbation import PerturbationConfig
from lhuc_asr.files import write_json
from lhuc_asr.lhuc.sites import LhucConfig, Site
from lhuc_asr.metalearning.adapting import Adaptation, Start
from lhuc_asr.metalearning.episodes import SpeakerSpeech
from lhuc_asr.metalearning.learning import MetalearnReport, StartLearning
from lhuc_asr.metalearning.settings import MetalearnConfig, Speeds
from lhuc_asr.profiles.prior import ScalePrior, save_prior
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.settings import to_plain
from lhuc_asr.system.sites import proved_sites
from lhuc_asr.system.training_speech import training_feats

logger = logging.getLogger(__name__)

START = "start.safetensors"
REPORT = "metalearn.json"


@dataclass(frozen=True, kw_only=True)
class StartTraining:
    """Learns where adaptation begins and how long its steps are, for one model.

    In every episode the scales of a training speaker are learnt in a few steps from some utterances, as `lhuc-adapt`
    does, and judged on others; the gradient of that judgement goes through the steps. A run that was broken off begins
    to learn anew, with the features and alignments that are there.

    When not to use it: for other steps than those it is learnt for (number, frames in each, targets), because speeds
    are right for these alone; with a dozen training speakers, whose every unit would be learnt by heart; where first
    passes err much, because targets of training speech are its transcripts, and steps that are right for these are
    too bold for wrong words: then choose ``adapt.lr`` on development speech, or set ``speeds`` to fixed. Speakers whom
    the network was trained on have little left to gain; what held-out speakers gain, the report tells. Features of all
    the speech are held in memory, 60 MB an hour for 40 filterbanks.

    Attributes:
        system: the model.
        manifest: transcribed speech of many speakers.
        config: of the learning.
        lhuc: which layers are scaled, by which function.
        directory: where everything goes.
        valid_fraction: share of the speakers that are held out. With the model's own fraction and seed they are those
            whom the network has not learnt from either.
        seed: of everything random.
        num_jobs: processes.
    """

    system: AcousticSystem
    manifest: Manifest
    config: MetalearnConfig
    directory: Path
    lhuc: LhucConfig = field(default_factory=LhucConfig)
    valid_fraction: float = 0.05
    seed: int = 0
    num_jobs: int = 1

    def check(self) -> None:
        """Raise what can be known before anything is computed or written.

        Raises:
            ConfigError: the network does not learn from frames, or not from features as they are.
            DataError: speech has no transcripts.
            SpeakerError: there are fewer than two speakers.
            SiteError: a layer does not exist or does not act.
        """
        self.system.require_plain_frames("a start")
        self.manifest.require_transcripts("learning")
        hold_out_speakers(self.manifest, fraction=self.valid_fraction, seed=self.seed)
        logger.info("%d sites proved to act: %s", len(self.sites), ", ".join(site.name for site in self.sites))

    def run(self) -> tuple[ScalePrior, MetalearnReport]:
        """Learn, and write the file.

        Raises:
            ConfigError, DataError, SpeakerError, SiteError: as `check` does.
            DataError: nobody is left to learn from or to judge.
            AlignmentError: not one utterance can be aligned.
        """
        self.check()
        parts = hold_out_speakers(self.manifest, fraction=self.valid_fraction, seed=self.seed)
        learning = StartLearning(
            adaptation=Adaptation(
                network=self.system.network.requires_grad_(False).eval(),
                sites=self.sites,
                kind=self.lhuc.amplitude,
                lr=self.config.lr,
                num_steps=self.config.num_steps,
                order=self.config.order,
            ),
            config=self.config,
            frames_per_second=1000 / self.system.features.frame_shift_ms,
            seed=self.seed,
        )
        start, report = learning.run(self._speakers(parts.kept), self._speakers(parts.held_out))
        prior = self._prior(start)
        save_prior(prior, self.directory / START)
        write_json(self.directory / REPORT, {**asdict(report), "best": report.best})
        return prior, report

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """What is scaled, proved to act."""
        return proved_sites(self.system.network, self.lhuc.layers)

    @cached_property
    def _aligned(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Utterance -> features, and those that are aligned -> states."""
        work = self.directory / "work"
        speech = training_feats(
            self.manifest,
            self.system.features,
            PerturbationConfig(),
            work / "features",
            seed=self.seed,
            num_jobs=self.num_jobs,
        )
        aligned = aligned_speech(self.system, self.manifest, work, num_jobs=self.num_jobs)
        return speech.feats, aligned.states(speech, self.system.hmm)

    def _speakers(self, part: Manifest) -> list[SpeakerSpeech]:
        """Those with two aligned utterances or more; the others are told."""
        feats, states = self._aligned
        utterances = {
            speaker: [u.id for u in part if u.speaker == speaker and u.id in states] for speaker in part.speakers
        }
        if too_few := [repr(speaker) for speaker, own in utterances.items() if len(own) < 2]:
            logger.warning("%d speakers have no two aligned utterances: %s", len(too_few), first_few(too_few))
        context = self.system.network.context
        return [
            SpeakerSpeech([feats[name] for name in own], [states[name] for name in own], context=context)
            for own in utterances.values()
            if len(own) > 1
        ]

    def _prior(self, start: Start) -> ScalePrior:
        """A prior whose mean is the start; nothing was learnt of variances, which are 1 as where there is no file."""
        learnt = self.config.speeds is not Speeds.fixed
        speeds = {name: value.detach().exp() for name, value in start.log_speeds.items()}
        return ScalePrior(
            base_fingerprint=self.system.fingerprint,
            amplitude=self.lhuc.amplitude,
            mean={name: r.detach() for name, r in start.r.items()},
            variance={name: torch.ones_like(r) for name, r in start.r.items()},
            speeds=speeds if learnt else {},
            layouts={site.name: site.layout.letters for site in self.sites},
            settings={"metalearn": to_plain(self.config)},
        )
