"""A system whose search is the best state of each frame, speech for it, and sessions."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig
from lhuc_asr.adaptation.session import AdaptationSession
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import DecodingError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.parallel import map_in_processes


@dataclass
class Peaks:
    """Stands in for the search: the path visits the state of phone A that fits each frame best, or silence."""

    hmm: HmmModel
    calls: list = field(default_factory=list)
    refuse: str = ""
    kill: str = ""

    def decode_all(self, items, *, num_jobs=1, meter=None, on_failure=None):
        def decode(item):
            utterance, log_likes = item
            if utterance == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            pdfs = log_likes.argmax(axis=1)
            path = np.searchsorted(self.hmm.transitions.pdf_of[1:], pdfs).astype(np.int32) + 1
            if utterance == self.refuse:
                return utterance, DecodingError(f"no path in {utterance!r}")
            return Hypothesis(utterance, (Word("A", 0.0, 0.1),), path, 1.0, 2.0)

        for result in map_in_processes(decode, items, num_jobs=num_jobs):
            if isinstance(result, Hypothesis):
                self.calls.append(result.utterance)
                meter.add(num_frames=len(result.transition_ids), cpu=0.0)
                yield result
            else:
                on_failure(*result)


class System(SimpleNamespace):
    @property
    def output_shift_ms(self):
        return self.features.frame_shift_ms * self.network.subsampling

    def log_likes(self, feats):
        with torch.inference_mode():
            return (self.network(torch.from_numpy(feats)[None])[0] - self.log_prior).numpy()


def data(speakers, *, per_speaker=4, num_frames=60, seed=0):
    rng = np.random.default_rng(seed)
    utterances, feats = [], {}
    for index, speaker in enumerate(speakers):
        for number in range(per_speaker):
            name = f"{index}/{number}"
            utterances.append(Utterance(name, Recording(name, "x.wav"), speaker, 0.0, 0.6, transcript="A A"))
            feats[name] = rng.normal(size=(num_frames, 4)).astype(np.float32)
    return Manifest(tuple(utterances)), feats


def session(system, directory, *, num_jobs=1, **changes):
    settings = {"lhuc": LhucConfig(), "adapt": AdaptConfig(min_seconds=0.01), "protocol": ProtocolConfig()}
    decoder = changes.pop("decoder", None) or Peaks(system.hmm)
    settings = AdaptationSettings(**{**settings, **changes})
    return AdaptationSession(system, settings, directory, num_jobs=num_jobs, decoder=decoder)
