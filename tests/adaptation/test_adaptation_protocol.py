"""Which utterances are learnt from and which are scored."""

import pytest

from lhuc_asr.adaptation.passes.protocol import Protocol, ProtocolConfig, plan_speaker
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.errors import ConfigError, SpeakerError

ENROLMENT = Protocol.enrolment


def speech(count):
    ids = [f"anna-{number:02}" for number in range(count)]
    recordings = [Utterance(name, Recording(name, name + ".wav"), "anna", start=0.0, end=2.0) for name in ids]
    return Manifest(tuple(reversed(recordings)))


def test_two_pass_learns_from_what_it_scores():
    plan = plan_speaker("anna", speech(3), ProtocolConfig())
    assert plan.adaptation == plan.evaluation == plan.utterances == ("anna-00", "anna-01", "anna-02")


@pytest.mark.parametrize(
    ("amount", "count"), [({"num_utterances": 3}, 3), ({"seconds": 5.0}, 3), ({"seconds": 99.0}, 10)]
)
def test_two_pass_may_learn_from_a_part_of_what_it_scores(amount, count):
    plan = plan_speaker("anna", speech(10), ProtocolConfig(**amount))
    assert plan.adaptation == tuple(f"anna-{number:02}" for number in range(count))
    assert len(plan.evaluation) == len(plan.utterances) == 10


@pytest.mark.parametrize(
    ("amount", "count"),
    [({}, 5), ({"num_utterances": 3}, 3), ({"seconds": 5.0}, 3), ({"seconds": 4.0}, 2), ({"fraction": 0.2}, 2)],
)
def test_enrolment_takes_the_first_by_id_and_scores_the_rest(amount, count):
    plan = plan_speaker("anna", speech(10), ProtocolConfig(name=ENROLMENT, **amount))
    assert plan.adaptation == tuple(f"anna-{number:02}" for number in range(count))
    assert plan.evaluation == tuple(f"anna-{number:02}" for number in range(count, 10))
    assert len(plan.utterances) == 10


@pytest.mark.parametrize("amount", [{}, {"num_utterances": 1}, {"seconds": 99.0}])
def test_nothing_left_to_score(amount):
    with pytest.raises(SpeakerError, match=r"'anna'.*none is left"):
        plan_speaker("anna", speech(1), ProtocolConfig(name=ENROLMENT, **amount))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": ENROLMENT, "num_utterances": 3, "seconds": 2.0}, "give one of"),
        ({"fraction": 0.5}, "is for protocol=enrolment; give two_pass .num_utterances"),
        ({"name": ENROLMENT, "num_utterances": 0}, "must be positive, got 0"),
        ({"name": ENROLMENT, "seconds": -1.0}, r"must be positive, got -1\.0"),
        ({"name": ENROLMENT, "fraction": 1.0}, "must be below 1"),
    ],
)
def test_settings_that_cannot_work(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        ProtocolConfig(**settings)
