"""A corpus that makes its own speech: invented people who ask an assistant for things, spoken by espeak-ng."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.corpora.demo_accents import ForeignAccent, pronunciations
from lhuc_asr.data.corpora.demo_acoustics import record
from lhuc_asr.data.corpora.demo_grammar import new_sentences, vocabulary
from lhuc_asr.data.corpora.demo_speakers import DemoSpeaker, SpeakerConfig, draw_speakers
from lhuc_asr.data.kaldi import read_kaldi_dir, write_kaldi_dir
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.synthesis import Synthesiser
from lhuc_asr.errors import ConfigError
from lhuc_asr.files import escape_id, read_json, write_json, write_text
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track
from lhuc_asr.ranges import require_at_least

SAMPLING_RATE = 16000
_VERSION = 1  # of the recipe in this package; another number makes the corpus anew

_logger = logging.getLogger(__name__)


class DemoSize(Enum):
    """How much speech: ``full`` for a result, ``smallest`` for a test of the machinery."""

    full = "full"
    smallest = "smallest"


@dataclass(kw_only=True, slots=True)
class DemoConfig:
    """The demo corpus.

    Attributes:
        num_train_speakers: people to train on.
        num_dev_speakers: people to tune on.
        num_test_speakers: people to show the result on.
        train_utterances_per_speaker: requests that each training speaker makes.
        utterances_per_speaker: requests that each dev and test speaker makes, about 2.5 seconds each.
        num_text_sentences: further sentences for the language model, never spoken.
        seed: of everything that is drawn.
        speakers: how far the speakers lie apart.
    """

    num_train_speakers: int = 48
    num_dev_speakers: int = 8
    num_test_speakers: int = 24
    train_utterances_per_speaker: int = 15
    utterances_per_speaker: int = 25
    num_text_sentences: int = 500
    seed: int = 0
    speakers: SpeakerConfig = field(default_factory=SpeakerConfig)

    def __post_init__(self) -> None:
        require_at_least(1, self, "demo", "num_train_speakers", "num_dev_speakers", "num_test_speakers")
        for name in ("train_utterances_per_speaker", "utterances_per_speaker"):
            if not 1 <= getattr(self, name) <= 999:
                raise ConfigError(f"demo.{name} must lie in [1, 999], got {getattr(self, name)}")
        require_at_least(0, self, "demo", "num_text_sentences")

    @property
    def num_speakers(self) -> dict[str, int]:
        """Set name -> number of speakers."""
        return {"train": self.num_train_speakers, "dev": self.num_dev_speakers, "test": self.num_test_speakers}

    def num_utterances(self, name: str) -> int:
        """Utterances of each speaker of a set."""
        return self.train_utterances_per_speaker if name == "train" else self.utterances_per_speaker


def demo_config(size: DemoSize = DemoSize.full, *, seed: int = 0) -> DemoConfig:
    """The settings of a size by name."""
    if size is DemoSize.full:
        return DemoConfig(seed=seed)
    return DemoConfig(
        num_train_speakers=6,
        num_dev_speakers=2,
        num_test_speakers=2,
        train_utterances_per_speaker=12,
        utterances_per_speaker=6,
        num_text_sentences=300,
        seed=seed,
    )


@dataclass(frozen=True)
class _Session:
    """One speaker in front of the microphone, with everything that is to be said."""

    speaker: DemoSpeaker
    sentences: tuple[str, ...]


def prepare(out: Path, config: DemoConfig, *, num_jobs: int = 1) -> dict[str, Manifest]:
    """Make the corpus, or find it made with the same settings.

    Writes into ``out``: ``train``, ``dev``, ``test`` (Kaldi directories), ``audio``, ``lexicon.txt``, ``lm_text.txt``
    (the training transcripts and further sentences of the same grammar, none of them said in dev or test) and, last,
    ``demo.json`` (settings and speakers).

    Returns:
        Set name -> its utterances.

    Raises:
        DependencyError: the wheel ``espeakng-loader`` is absent.
        ConfigError: there are fewer voices than speakers.
    """
    plan = draw_speakers(config.num_speakers, config.speakers, seed=config.seed)
    made_of = {
        "version": _VERSION,
        "directory": str(out.resolve()),
        "config": asdict(config),
        "speakers": {name: [asdict(speaker) for speaker in speakers] for name, speakers in plan.items()},
    }
    if _is_made(out, made_of):
        _logger.info("the demo corpus in %s is complete", out)
        return {name: read_kaldi_dir(out / name) for name in plan}
    (out / "demo.json").unlink(missing_ok=True)
    shutil.rmtree(out / "audio", ignore_errors=True)
    sets = _write_words(out, _sessions(plan, config), config)
    manifests = {name: _record_set(out, name, sessions, num_jobs) for name, sessions in sets.items()}
    write_json(out / "demo.json", made_of)
    return manifests


def _is_made(out: Path, made_of: dict[str, object]) -> bool:
    try:
        found = read_json(out / "demo.json")
    except (OSError, ValueError):
        return False
    return bool(found == _as_read(made_of)) and all((out / name).exists() for name in ("train", "lexicon.txt"))


def _as_read(value: object) -> object:
    """A value as it comes back from JSON: tuples are lists."""
    if isinstance(value, dict):
        return {key: _as_read(item) for key, item in value.items()}
    return [_as_read(item) for item in value] if isinstance(value, (tuple, list)) else value


def _sessions(plan: dict[str, list[DemoSpeaker]], config: DemoConfig) -> dict[str, list[_Session]]:
    random_source = random.Random(f"sentences {config.seed}")
    known: set[str] = set()
    sets: dict[str, list[_Session]] = {}
    for name, speakers in plan.items():
        each = config.num_utterances(name)
        sentences = new_sentences(each * len(speakers), random_source, known=known)
        known.update(sentences)
        sets[name] = [
            _Session(speaker, tuple(sentences[index * each : (index + 1) * each]))
            for index, speaker in enumerate(speakers)
        ]
    return sets


def _write_words(out: Path, sets: dict[str, list[_Session]], config: DemoConfig) -> dict[str, list[_Session]]:
    synthesiser = Synthesiser()
    entries = [(word, phones) for word in vocabulary() for phones in pronunciations(word, synthesiser)]
    write_text(out / "lexicon.txt", "".join(f"{word} {' '.join(phones)}\n" for word, phones in entries))
    said = {sentence for sessions in sets.values() for session in sessions for sentence in session.sentences}
    text = [sentence for session in sets["train"] for sentence in session.sentences]
    text += new_sentences(config.num_text_sentences, random.Random(f"text {config.seed}"), known=said)
    write_text(out / "lm_text.txt", "".join(f"{sentence}\n" for sentence in text))
    return sets


def _record_set(out: Path, name: str, sessions: list[_Session], num_jobs: int) -> Manifest:
    audio = out.resolve() / "audio" / name
    audio.mkdir(parents=True, exist_ok=True)
    recorded = map_in_processes(lambda session: _record_session(session, audio), sessions, num_jobs=num_jobs)
    progress = track(recorded, f"speaking {name}", total=len(sessions), unit="speaker")
    utterances = [utterance for spoken in progress for utterance in spoken]
    manifest = Manifest(tuple(sorted(utterances, key=lambda utterance: utterance.id)))
    write_kaldi_dir(manifest, out / name)
    return manifest


def _record_session(session: _Session, audio: Path) -> list[Utterance]:
    speaker = session.speaker
    synthesiser = Synthesiser(seed=speaker.seed)
    text_of = _reader(speaker)
    utterances = []
    for index, sentence in enumerate(session.sentences):
        speech = synthesiser.say(text_of(sentence), speaker.voice)
        random_source = np.random.default_rng([speaker.seed, index])
        heard = record(speech.samples, speech.sampling_rate, speaker, to=SAMPLING_RATE, random_source=random_source)
        name = f"{speaker.id}-{index:03d}"
        path = audio / f"{escape_id(name)}.wav"
        write_audio(path, heard, SAMPLING_RATE)
        utterances.append(Utterance(name, Recording(name, str(path)), speaker.id, transcript=sentence))
    return utterances


def _reader(speaker: DemoSpeaker) -> Callable[[str], str]:
    """Sentence -> what the synthesiser is given, in the speaker's accent."""
    if speaker.habits is None:
        return str.lower
    teacher = Synthesiser()
    accent = ForeignAccent(speaker.voice.language, speaker.habits, teacher)
    return lambda sentence: accent.text(sentence.split(), teacher)
