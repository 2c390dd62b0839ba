"""What training knew comes back from the model directory, or from what training left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from helpers.toy_lessons import lessons
from helpers.toy_utterances import ALIGNER, CHAIN, toy_utterances
from lhuc_asr.errors import ModelError
from lhuc_asr.hmm.alignment import AlignmentSet
from lhuc_asr.system.lessons import mmi, tied_states
from lhuc_asr.system.trained_objective import TrainedObjective, objective_path, read_objective, write_objective
from lhuc_asr.training.criteria.criterion import CriterionConfig, CriterionKind
from lhuc_asr.training.criteria.lfmmi.objective import LfMmiConfig

SPEECH = toy_utterances(6, num_phones=(3, 9))
OBJECTIVE = TrainedObjective.of_alignments(SPEECH.alignments, ALIGNER, CHAIN, lfmmi=LfMmiConfig(leak=0.2))


@pytest.fixture
def system(tmp_path: Path) -> Any:
    """A network of scores; its directory as training leaves it."""
    CHAIN.save(tmp_path / "hmm.json")
    zeros = torch.zeros(CHAIN.num_pdfs)
    return SimpleNamespace(directory=tmp_path, log_prior=zeros, hmm=CHAIN, fingerprint="f" * 64)


def assert_same(one: TrainedObjective, other: TrainedObjective) -> None:
    torch.testing.assert_close(one.log_prior, other.log_prior)
    assert one.phone_lm.log_probs == other.phone_lm.log_probs


def test_states_and_phones_are_counted() -> None:
    states = np.concatenate([tied_states(path, ALIGNER, CHAIN) for path in SPEECH.alignments.values()])
    seen = np.bincount(states, minlength=CHAIN.num_pdfs)
    assert OBJECTIVE.log_prior.argmax() == seen.argmax()
    assert float(OBJECTIVE.log_prior.exp().sum()) == pytest.approx(1, abs=1e-5)
    first = {phones[0] for phones in SPEECH.phones.values()}
    assert OBJECTIVE.phone_lm.log_probs[(0,)].keys() == first


def test_the_phones_are_those_of_the_denominator_in_training() -> None:
    learnt = lessons(CHAIN)
    used = mmi(learnt, CriterionConfig(kind=CriterionKind.lfmmi), 3).spoken.compiler.lm
    alignments = {name: learnt.alignments[name] for name in learnt.training}
    assert TrainedObjective.of_alignments(alignments, ALIGNER, CHAIN).phone_lm == used


def test_round_trip(system: Any) -> None:
    write_objective(system.directory, OBJECTIVE, fingerprint=system.fingerprint)
    found = read_objective(system)
    assert found is not None
    assert_same(found, OBJECTIVE)
    assert found.lfmmi == LfMmiConfig(leak=0.2)
    assert found.sha256 == OBJECTIVE.sha256 != replace(OBJECTIVE, lfmmi=LfMmiConfig()).sha256


def test_outputs_with_priors_have_none(system: Any) -> None:
    write_objective(system.directory, OBJECTIVE, fingerprint=system.fingerprint)
    system.log_prior = OBJECTIVE.log_prior
    assert read_objective(system) is None


def test_an_altered_or_foreign_file_is_refused(system: Any) -> None:
    write_objective(system.directory, OBJECTIVE, fingerprint="another model")
    with pytest.raises(ModelError, match="belongs to another model"):
        read_objective(system)
    path = objective_path(system.directory)
    page = json.loads(path.read_text())
    page["lfmmi"]["leak"] = 0.9
    path.write_text(json.dumps(page))
    with pytest.raises(ModelError, match="was altered"):
        read_objective(system)


@pytest.mark.parametrize("left_out", ["log_prior", "phone_lm", "lfmmi"])
def test_a_part_that_lacks_is_named(left_out: str) -> None:
    plain = OBJECTIVE.plain()
    del plain[left_out]
    with pytest.raises(ModelError, match=left_out):
        TrainedObjective.from_plain(plain, source="objective.json")


def test_older_directories_count_again_what_training_left(system: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert read_objective(system) is None
    left = AlignmentSet(dict(SPEECH.alignments), {}, 0.0)
    for stage in ("gmm", "chain"):
        (system.directory / "work" / stage).mkdir(parents=True)
    left.save(system.directory / "work" / "gmm")
    ALIGNER.save(system.directory / "work" / "gmm" / "hmm.json")
    CHAIN.save(system.directory / "work" / "chain" / "hmm.json")
    found = read_objective(system)
    assert found is not None
    assert_same(found, OBJECTIVE)
    assert "counted from the 6 alignments" in caplog.text
    assert not objective_path(system.directory).exists()


def test_what_another_training_left_is_not_taken(system: Any) -> None:
    (system.directory / "work" / "chain").mkdir(parents=True)
    ALIGNER.save(system.directory / "work" / "chain" / "hmm.json")
    assert read_objective(system) is None
