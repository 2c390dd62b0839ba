"""The synthesiser: the same calls give the same speech, and mistakes are told."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from lhuc_asr.data.synthesis import Synthesiser, Voice, voice_variants
from lhuc_asr.errors import ConfigError, DependencyError

needs_espeak = pytest.mark.skipif(
    "not __import__('importlib').util.find_spec('espeakng_loader')", reason="no espeak-ng"
)


@needs_espeak
@pytest.mark.parametrize("variant", ["f2", "klatt4"])
def test_same_calls_same_speech_whatever_was_said_elsewhere(variant: str) -> None:
    other = Synthesiser()
    other.say("something else entirely", Voice(variant="f3"))

    def two_sentences() -> list[np.ndarray]:
        synthesiser = Synthesiser()
        voice = Voice(variant=variant)
        return [synthesiser.say(text, voice).samples for text in ("turn the lights on", "play jazz music")]

    first, second = two_sentences(), two_sentences()
    time.sleep(1.1)  # the library looks at the clock in seconds
    other.say("and more", Voice(language="de"))
    for one, another, third in zip(first, second, two_sentences(), strict=True):
        np.testing.assert_array_equal(one, another)
        np.testing.assert_array_equal(one, third)


@needs_espeak
def test_speech_is_sound_with_phones_in_order() -> None:
    speech = Synthesiser().say("turn the lights on", Voice(rate=150))
    seconds = len(speech.samples) / speech.sampling_rate
    assert 0.8 < seconds < 3.0
    assert 0.1 < np.abs(speech.samples).max() <= 1.0
    starts = [phone.start for phone in speech.phones]
    assert starts == sorted(starts)
    assert starts[-1] <= seconds
    assert [phone.mnemonic for phone in speech.phones[:3]] == ["t", "3:", "n"]


@needs_espeak
def test_every_setting_of_a_voice_is_heard() -> None:
    plain = Synthesiser().say("hello", Voice()).samples
    for voice in (
        Voice(language="de"),
        Voice(variant="f2"),
        Voice(rate=300),
        Voice(pitch=80),
        Voice(pitch_range=0),
    ):
        changed = Synthesiser().say("hello", voice).samples
        assert len(changed) != len(plain) or np.abs(changed - plain).max() > 0, voice
    assert len(Synthesiser().say("hello", Voice(rate=300)).samples) < len(plain)


@needs_espeak
def test_settings_do_not_stick_to_the_synthesiser() -> None:
    synthesiser = Synthesiser()
    slow = synthesiser.say("hello there", Voice(rate=100))
    fast = synthesiser.say("hello there", Voice(rate=300))
    again = synthesiser.say("hello there", Voice(rate=100))
    assert len(slow.samples) == pytest.approx(len(again.samples), rel=0.05)
    assert len(fast.samples) < 0.6 * len(slow.samples)


@needs_espeak
def test_pronunciation_of_a_word() -> None:
    assert Synthesiser().phones_of("cat") == ("k", "'a", "t")


@needs_espeak
def test_a_voice_knows_which_phones_it_has() -> None:
    synthesiser = Synthesiser()
    assert synthesiser.can_say("T", language="en-us")
    assert synthesiser.can_say("aI", language="de")
    assert not synthesiser.can_say("V", language="es")


@needs_espeak
def test_unknown_names_are_told() -> None:
    with pytest.raises(ConfigError, match=r"'marioo'.*'Mario'"):
        Synthesiser().say("x", Voice(variant="marioo"))
    with pytest.raises(ConfigError, match="'xx'"):
        Synthesiser().say("x", Voice(language="xx"))


@needs_espeak
def test_there_are_many_variants() -> None:
    assert len(voice_variants()) > 90
    assert list(voice_variants()) == sorted(voice_variants())


def test_absent_wheel_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DependencyError, match=r"espeakng-loader.*pip install"):
        Synthesiser()
