"""Everything together on a tiny but real recogniser: graph, search, alignment, profile; a strange speaker is helped."""

from pathlib import Path

import pytest

from helpers.tiny_recogniser import (
    data,
    learning_from,
    num_right,
)
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.passes.protocol import Protocol, ProtocolConfig
from lhuc_asr.adaptation.session import AdaptationSession
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.model_directory import load_system

BY_ITSELF = [kind for kind in Supervision if kind not in (Supervision.entropy, Supervision.words)]


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("supervision", BY_ITSELF)
def test_a_strange_speaker_is_understood_better(directory, tmp_path, protocol, supervision):
    system = load_system(directory)
    manifest, feats = data(system.hmm)
    settings = AdaptationSettings(
        lhuc=LhucConfig(), adapt=learning_from(supervision, min_seconds=0.1), protocol=ProtocolConfig(name=protocol)
    )
    session = AdaptationSession(system, settings, tmp_path, num_jobs=2)
    plain, strange = session.run(manifest, feats)
    least = num_right(strange.first_pass, manifest) + (protocol is not Protocol.online)  # its first words are no better
    assert num_right(strange.second_pass, manifest) >= least
    assert num_right(plain.second_pass, manifest) > 0.9 * 4 * len(plain.plan.evaluation)
    assert strange.update.objective_after < strange.update.objective_before
    assert load_system(directory).fingerprint == system.fingerprint
    assert load_profile(strange.profile, fingerprint=system.fingerprint).speaker == "strange"
    again = list(AdaptationSession(load_system(directory), settings, Path(tmp_path), num_jobs=2).run(manifest, feats))
    assert all(result.resumed for result in again)
