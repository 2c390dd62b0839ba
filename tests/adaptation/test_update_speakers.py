"""Many speakers in one call: the same with any number of processes, and whoever fails fails alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lhuc_asr.adaptation import updating
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.outcome import Updated
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.grouping import GroupSizes
from lhuc_asr.adaptation.updating import update_speakers
from lhuc_asr.errors import ConfigError
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.models.dnn import Dnn, DnnConfig

NETWORK = Dnn(DnnConfig(num_layers=2, hidden_dim=9, context=1), feat_dim=4, num_outputs=6).requires_grad_(False).eval()
SITES = choose_sites(NETWORK, NETWORK.adaptation_sites, [])


def speech(num_speakers: int) -> tuple[dict[str, SpeakerTargets], dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(3)
    targets, feats = {}, {}
    for place in range(num_speakers):
        lengths = {f"{place}/{number}": 5 + 3 * place + number for number in range(2)}
        feats.update({name: rng.normal(size=(length, 4)).astype(np.float32) for name, length in lengths.items()})
        pdfs = {name: rng.integers(6, size=length).astype(np.int32) for name, length in lengths.items()}
        targets[f"s{place}"] = SpeakerTargets(pdfs, sum(lengths.values()), sum(lengths.values()))
    return targets, feats


def learn(
    targets: Mapping[str, SpeakerTargets], feats: Mapping[str, NDArray[np.float32]], *, num_jobs: int = 1
) -> dict[str, Updated | str]:
    settings = AdaptationSettings(lhuc=LhucConfig(), adapt=AdaptConfig(batch_size=16), protocol=ProtocolConfig())
    return dict(update_speakers(NETWORK, SITES, targets, feats, settings=settings, num_jobs=num_jobs))


def r_of(outcome: Updated | str) -> torch.Tensor:
    assert isinstance(outcome, Updated)
    return torch.cat([torch.from_numpy(values) for values in outcome.r.values()])


@pytest.fixture
def groups_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = GroupSizes(rows=64, frames=10**6, at_least=1)
    monkeypatch.setattr(updating.GroupSizes, "for_device", lambda device, units: sizes)


def test_a_wrong_setting_ends_the_run_and_is_nobodys_failure() -> None:
    targets, feats = speech(2)
    adapt = AdaptConfig(prior=1.0, prior_from="prior.safetensors")
    settings = AdaptationSettings(lhuc=LhucConfig(), adapt=adapt, protocol=ProtocolConfig())
    with pytest.raises(ConfigError, match=r"adapt\.prior_from names a file"):
        list(update_speakers(NETWORK, SITES, targets, feats, settings=settings, num_jobs=1))


def test_the_number_of_processes_changes_not_one_bit(groups_of_four: None) -> None:
    targets, feats = speech(10)
    one, two = (learn(targets, feats, num_jobs=num_jobs) for num_jobs in (1, 2))
    assert list(one) == list(two) == list(targets)
    assert all(torch.equal(r_of(one[speaker]), r_of(two[speaker])) for speaker in targets)


def test_company_changes_nothing_that_counts(groups_of_four: None) -> None:
    targets, feats = speech(6)
    together = learn(targets, feats)
    for speaker, own in targets.items():
        alone = learn({speaker: own}, feats)[speaker]
        torch.testing.assert_close(r_of(together[speaker]), r_of(alone), atol=1e-5, rtol=0)
    times = [outcome.report.seconds for outcome in together.values() if isinstance(outcome, Updated)]
    assert len(times) == 6
    assert min(times) > 0


def test_speakers_who_fail_give_the_reason_and_the_others_go_on(groups_of_four: None) -> None:
    targets, feats = speech(4)
    feats["1/0"] = feats["1/0"][:-1]
    feats["2/0"] = np.full_like(feats["2/0"], np.nan)
    del feats["3/1"]
    outcomes = learn(targets, feats)
    assert isinstance(outcomes["s0"], Updated)
    assert outcomes["s1"] == "speaker 's1': utterance '1/0' has 7 frames but 8 targets"
    assert outcomes["s2"] == "speaker 's2': the objective is not finite before the first step"
    assert outcomes["s3"] == "speaker 's3': KeyError: '3/1'"
    assert list(outcomes) == list(targets)


def test_a_speaker_whose_targets_do_not_exist_does_not_stop_the_group(groups_of_four: None) -> None:
    targets, feats = speech(3)
    targets["s1"].pdfs["1/0"][0] = 77  # torch refuses the whole minibatch
    outcomes = learn(targets, feats)
    assert isinstance(outcomes["s0"], Updated)
    assert isinstance(outcomes["s2"], Updated)
    assert isinstance(outcomes["s1"], str)
    assert outcomes["s1"].startswith("speaker 's1': ")
