"""Who speaks in the demo: voices, accents and rooms, drawn from a seed so that no test voice is heard in training.

What makes a speaker hard is systematic and lasts: the length of the vocal tract, the accent, the pace, the quality
of the voice, the room and the noise in it. A model of the training speakers does not know it; a minute of speech
shows it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from lhuc_asr.data.corpora.demo_accents import FOREIGN_LANGUAGES, draw_habits
from lhuc_asr.data.synthesis import Voice, voice_variants
from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_share
from lhuc_asr.units import Decibels, Seconds

ENGLISH_ACCENTS = ("en-us", "en-us", "en-us", "en", "en-gb-x-rp")
NEW_ENGLISH_ACCENTS = ("en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan")
TRAINING_LANGUAGES = ("de", "es", "hi", "sv", "id", "cs")
UNSUITABLE_VARIANTS = ("whisper", "whisperf", "Demonic", "Mr serious")


@dataclass(kw_only=True, slots=True)
class SpeakerConfig:
    """How far the demo's speakers lie apart: the knobs of its difficulty.

    Test speakers differ from training speakers in person (vocal tract, accent) and in room (noise). Both weigh alike: a
    monophone net on seed 0 makes 7.6 % word errors with neither mismatch, 12.5 % with the first, 12.7 % with the second
    and 20.2 % with both.

    Attributes:
        tract_spread: training speakers' formants lie up to this share above or below the voice's own.
        test_tract_spread: the same for dev and test speakers; larger, as if children and giants came along.
        foreign_share: share of training speakers with a foreign accent.
        test_foreign_share: the same for dev and test speakers.
        new_accent_share: among the dev and test speakers, how many have an accent that no training speaker has.
        accent_strength: probability with which a foreign speaker has each of the accent's habits.
        rate: slowest and fastest pace in words a minute.
        snr_db: the noisiest and the quietest room of the training speakers.
        test_snr_db: the same for dev and test speakers.
        echo_s: shortest and longest reverberation time.
    """

    tract_spread: float = 0.10
    test_tract_spread: float = 0.25
    foreign_share: float = 0.3
    test_foreign_share: float = 0.6
    new_accent_share: float = 0.5
    accent_strength: float = 0.8
    rate: list[int] = field(default_factory=lambda: [140, 210])
    snr_db: list[float] = field(default_factory=lambda: [10.0, 30.0])
    test_snr_db: list[float] = field(default_factory=lambda: [5.0, 20.0])
    echo_s: list[float] = field(default_factory=lambda: [0.05, 0.3])

    def __post_init__(self) -> None:
        shares = ("foreign_share", "test_foreign_share", "new_accent_share", "accent_strength")
        require_share(self, "demo.speakers", *shares)
        for name in ("tract_spread", "test_tract_spread"):
            if not 0 <= getattr(self, name) <= 0.25:
                raise ConfigError(f"demo.speakers.{name} must lie in [0, 0.25], got {getattr(self, name)}")
        for name in ("rate", "snr_db", "test_snr_db", "echo_s"):
            low_high = getattr(self, name)
            if len(low_high) != 2 or low_high[0] > low_high[1]:
                raise ConfigError(f"demo.speakers.{name} must be two ascending numbers, got {low_high}")
        if not 80 <= self.rate[0] <= self.rate[1] <= 350:
            raise ConfigError(f"demo.speakers.rate must lie in [80, 350] words a minute, got {self.rate}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSpeaker:
    """One invented person, and the room that this person speaks in.

    Attributes:
        id: name of the speaker.
        voice: language, variant, pace and pitch of the synthesiser.
        habits: substitutions of a foreign accent; None for a speaker of English.
        formant_factor: formants are moved by this factor (above 1: a shorter vocal tract).
        tilt_db: slope of the microphone's response, per octave.
        echo: reverberation time of the room.
        snr_db: level of the speech over the noise.
        noise_slope: exponent of the noise's spectrum, 0 is white, 1 pink, 2 brown.
        seed: of everything that changes from utterance to utterance.
    """

    id: str
    voice: Voice
    habits: tuple[str, ...] | None
    formant_factor: float
    tilt_db: Decibels
    echo: Seconds
    snr_db: Decibels
    noise_slope: float
    seed: int


def draw_speakers(counts: dict[str, int], config: SpeakerConfig, *, seed: int) -> dict[str, list[DemoSpeaker]]:
    """Set name -> its speakers; the sets share no voice variant.

    Args:
        counts: set name -> number of speakers; the set called ``train`` gets the training accents and spread.

    Raises:
        ConfigError: more speakers are wanted than there are voice variants.
    """
    variants = [variant for variant in voice_variants() if variant not in UNSUITABLE_VARIANTS]
    if sum(counts.values()) > len(variants):
        raise ConfigError(
            f"{sum(counts.values())} demo speakers asked for, espeak-ng has {len(variants)} voice variants"
        )
    random_source = random.Random(f"speakers {seed}")
    random_source.shuffle(variants)
    return {
        name: [
            _draw(f"{name}{index:03d}", variants.pop(), name == "train", config, random_source)
            for index in range(count)
        ]
        for name, count in counts.items()
    }


def _draw(
    speaker: str, variant: str, in_training: bool, config: SpeakerConfig, random_source: random.Random
) -> DemoSpeaker:
    language, habits = _draw_accent(in_training, config, random_source)
    spread = config.tract_spread if in_training else config.test_tract_spread
    factor = 1.0 + random_source.uniform(-spread, spread)
    voice = Voice(
        language=language,
        variant=variant,
        rate=round(random_source.uniform(*config.rate) / factor),
        pitch=random_source.randint(25, 75),
        pitch_range=random_source.randint(20, 80),
    )
    return DemoSpeaker(
        id=speaker,
        voice=voice,
        habits=habits,
        formant_factor=round(factor, 3),
        tilt_db=round(random_source.uniform(-3.0, 3.0), 2),
        echo=round(random_source.uniform(*config.echo_s), 3),
        snr_db=round(random_source.uniform(*(config.snr_db if in_training else config.test_snr_db)), 1),
        noise_slope=round(random_source.uniform(0.0, 2.0), 2),
        seed=random_source.getrandbits(32),
    )


def _draw_accent(
    in_training: bool, config: SpeakerConfig, random_source: random.Random
) -> tuple[str, tuple[str, ...] | None]:
    foreign = random_source.random() < (config.foreign_share if in_training else config.test_foreign_share)
    new = not in_training and random_source.random() < config.new_accent_share
    if not foreign:
        return random_source.choice(NEW_ENGLISH_ACCENTS if new else ENGLISH_ACCENTS), None
    new_languages = [language for language in FOREIGN_LANGUAGES if language not in TRAINING_LANGUAGES]
    language = random_source.choice(new_languages if new else TRAINING_LANGUAGES)
    return language, draw_habits(language, config.accent_strength, random_source)
