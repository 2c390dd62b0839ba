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


def test_shuffled_utterances_are_drawn_by_the_seed_and_more_of_them_hold_the_fewer():
    def plan(shuffle, count):
        return plan_speaker("anna", speech(20), ProtocolConfig(name=ENROLMENT, num_utterances=count, shuffle=shuffle))

    five, ten = plan(0, 5), plan(0, 10)
    assert set(five.adaptation) < set(ten.adaptation) and len(ten.adaptation) == 10
    assert five == plan(0, 5) != plan(1, 5)
    assert five.adaptation != tuple(f"anna-{number:02}" for number in range(5))
    assert sorted(five.adaptation + five.evaluation) == [f"anna-{number:02}" for number in range(20)]


def test_shuffled_amounts_are_scored_on_the_same_speech():
    def plan(count):
        config = ProtocolConfig(name=ENROLMENT, scored=0.5, num_utterances=count, shuffle=7)
        return plan_speaker("anna", speech(20), config)

    assert plan(2).evaluation == plan(8).evaluation and len(plan(8).evaluation) == 10
    assert set(plan(2).adaptation) < set(plan(8).adaptation)


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
        ({"shuffle": 1}, "changes nothing under protocol=two_pass, where nothing is chosen"),
        ({"name": Protocol.online, "shuffle": 1}, "changes nothing under protocol=online"),
    ],
)
def test_settings_that_cannot_work(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        ProtocolConfig(**settings)
