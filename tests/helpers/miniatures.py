"""Miniatures of the paper's corpora, each in its own directory layout, spoken in the tones of the commands' tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from helpers.tones import WORDS, speak

LEXICON = "".join(f"{word} {phones}\n" for word, phones in WORDS.items())


@dataclass(frozen=True)
class Said:
    """One sentence of a long recording; times in seconds."""

    start: float
    end: float
    words: list[str]


class Talker:
    """Somebody who says sentences of three words.

    Args:
        factor: on all tones.
        rate: samples a second.
        seed: of the words.
    """

    def __init__(self, factor: float, rate: int, seed: int) -> None:
        self.factor, self.rate = factor, rate
        self._rng = np.random.default_rng(seed)

    def sentence(self) -> tuple[list[str], NDArray[np.float32]]:
        words = [list(WORDS)[index] for index in self._rng.integers(len(WORDS), size=3)]
        return words, speak(words, self.factor, self._rng, rate=self.rate)

    def speech(self, num_sentences: int) -> tuple[list[Said], NDArray[np.float32]]:
        """One recording of some sentences, and where they lie in it."""
        said, pieces, now = [], [], 0.0
        for words, samples in (self.sentence() for _ in range(num_sentences)):
            said.append(Said(now, now + len(samples) / self.rate, words))
            pieces.append(samples)
            now = said[-1].end
        return said, np.concatenate(pieces)


def talkers(names: Sequence[str], rate: int, seed: int) -> Iterator[tuple[str, Talker]]:
    """People whose tones lie a few percent apart."""
    for number, name in enumerate(names):
        yield name, Talker(1.0 + 0.05 * (number % 4), rate, 100 * seed + number)


def write_sound(path: Path, samples: NDArray[np.float32], rate: int, *, kind: str = "WAV") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, format=kind, subtype="PCM_16")


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_tedlium(root: Path) -> Path:
    """Release 3 and a set of IWSLT: talks in SPHERE files, STM with marks of noise, a lexicon with variants."""
    sets = {"train": ["AnnA_2010", "BenB_2011", "CatC_2009", "DanD_2012"], "dev": ["EveE_2010"], "test": ["FayF_2011"]}
    sets |= {"tst2013": ["GilG_2013"]}
    for seed, (name, talks) in enumerate(sets.items()):
        for talk, talker in talkers(talks, 16_000, seed):
            said, samples = talker.speech(10 if name == "train" else 4)
            write_sound(root / "legacy" / name / "sph" / f"{talk}.sph", samples, 16_000, kind="NIST")
            lines = [
                f"{talk} 1 {talk} {one.start:.3f} {one.end:.3f} <o,f0,male> {' '.join(one.words).lower()} {{NOISE}}"
                for one in said
            ]
            lines.append(f"{talk} 1 inter_segment_gap 0.0 0.1 <o,,unknown> ignore_time_segment_in_scoring")
            write_lines(root / "legacy" / name / "stm" / f"{talk}.stm", lines)
    plain = LEXICON.lower().splitlines()
    write_lines(root / "TEDLIUM.152k.dic", [*(_phones_upper(line) for line in plain), "one(2) W AH AH N"])
    return root


def _phones_upper(line: str) -> str:
    word, phones = line.split(maxsplit=1)
    return f"{word} {phones.upper()}"


def make_ami(root: Path) -> Path:
    """Meetings of two people with headsets and a microphone on the table; annotations in NITE XML."""
    meetings = {"ES2002a": ("MEE001", "FEE002"), "ES2005a": ("MEE003", "FEE004"), "ES2011a": ("MEE005", "FEE006")}
    meetings["ES2004a"] = ("MEE007", "FEE008")
    notes, meeting_lines = root / "ami_public_manual_1.6.2", []
    for seed, (meeting, people) in enumerate(meetings.items()):
        speakers, tracks = "", []
        for channel, (person, talker) in enumerate(talkers(people, 16_000, seed)):
            said, samples = talker.speech(12)
            agent = "AB"[channel]
            write_sound(root / meeting / "audio" / f"{meeting}.Headset-{channel}.wav", samples, 16_000)
            speakers += f'<speaker nxt_agent="{agent}" global_name="{person}" channel="{channel}"/>'
            _write_nite(notes, f"{meeting}.{agent}", said)
            tracks.append(samples)
        longest = max(map(len, tracks))
        table = sum(np.pad(track, (0, longest - len(track))) for track in tracks) / len(tracks)
        write_sound(root / meeting / "audio" / f"{meeting}.Array1-01.wav", table.astype(np.float32), 16_000)
        meeting_lines.append(f'<meeting observation="{meeting}">{speakers}</meeting>')
    write_lines(notes / "corpusResources" / "meetings.xml", ["<meetings>", *meeting_lines, "</meetings>"])
    return root


def _write_nite(notes: Path, name: str, said: Sequence[Said]) -> None:
    segments = [f'<segment transcriber_start="{one.start}" transcriber_end="{one.end}"/>' for one in said]
    words = []
    for one in said:
        step = (one.end - one.start - 0.02) / len(one.words)
        for number, word in enumerate(one.words):
            start = one.start + 0.01 + number * step
            words.append(f'<w starttime="{start:.4f}" endtime="{start + step:.4f}">{word.lower()}</w>')
    write_lines(notes / "segments" / f"{name}.segments.xml", ["<segments>", *segments, "</segments>"])
    write_lines(notes / "words" / f"{name}.words.xml", ["<words>", *words, "</words>"])


def make_swbd(root: Path) -> Path:
    """Conversations of two sides in SPHERE files of two channels; transcripts with markup."""
    for seed, number in enumerate(("02001", "02005", "02006")):
        short = f"sw{number[1:]}"
        sides = _conversation(root / "LDC97S62" / "swb1_d1" / "data" / f"sw{number}.sph", seed, 10)
        for side, said in sides.items():
            folder = root / "swb_ms98_transcriptions" / number[1:3] / number[1:]
            lines = [
                f"{short}{side}-ms98-a-{index:04} {one.start:.6f} {one.end:.6f} {' '.join(one.words).lower()} [noise]"
                for index, one in enumerate(said)
            ]
            lines.append(f"{short}{side}-ms98-a-9999 0.0 0.1 [silence]")
            write_lines(folder / f"{short}{side}-ms98-a-trans.text", lines)
    for seed, name in enumerate(("sw_4390", "en_4156")):
        sides = _conversation(root / "LDC2002S09" / "hub5e_00" / "english" / f"{name}.sph", 10 + seed, 4)
        lines = [
            f"{one.start:.2f} {one.end:.2f} {side}: %uh {' '.join(one.words).lower()} {{breath}}".replace("%uh ", "")
            for side, said in sides.items()
            for one in said
        ]
        write_lines(root / "LDC2002T43" / "reference" / "english" / f"{name}.txt", ["#Language: eng", "", *lines])
    return root


def _conversation(path: Path, seed: int, num_sentences: int) -> dict[str, list[Said]]:
    found = {name: talker.speech(num_sentences) for name, talker in talkers(("A", "B"), 8_000, seed)}
    longest = max(len(samples) for _, samples in found.values())
    both = np.stack([np.pad(samples, (0, longest - len(samples))) for _, samples in found.values()], axis=1)
    write_sound(path, both, 8_000, kind="NIST")
    return {side: said for side, (said, _) in found.items()}


def make_aurora4(root: Path) -> Path:
    """Headerless big-endian sound files, lists of them, and transcripts of WSJ0."""
    spoken: dict[str, str] = {}
    noise = np.random.default_rng(7)
    train = _sentences(root, "training_multi", ("011", "012", "013", "014"), 10, seed=0, spoken=spoken)
    write_lines(root / "lists" / "training_multicondition_16k.list", train)
    for seed, (name, people) in enumerate({"dev": ("050",), "test": ("440", "441")}.items(), start=1):
        for condition in range(1, 15):
            folder = (
                f"test_{condition:02d}" if name == "test" else f"dev{condition:02d}_0330/dev_{condition:02d}_0330_16k"
            )
            listed = _sentences(root, folder, people, 1, seed=seed, spoken=spoken, noise=noise, loud=0.002 * condition)
            kind = "devtest" if name == "dev" else "test"
            written = [line.split("/", 1)[1] if name == "dev" else line for line in listed]
            write_lines(root / "lists" / f"{kind}{condition:02d}_0330_16k.list", written)
    dots = [f"{words} ({name})" for name, words in spoken.items()]
    write_lines(root / "wsj0" / "transcrp" / "dots" / "all.dot", dots)
    return root


def make_speechocean762(root: Path) -> Path:
    """Kaldi directories of children and adults, one sound file for each utterance, and a lexicon."""
    sets = {"train": ("0001", "0002", "0003", "0004"), "dev": ("0011", "0012"), "test": ("0021", "0022")}
    for seed, (name, people) in enumerate(sets.items()):
        names = ("wav.scp", "utt2spk", "text", "spk2age", "spk2gender")
        tables: dict[str, list[str]] = {table: [] for table in names}
        for person, talker in talkers(people, 16_000, seed):
            tables["spk2age"].append(f"{person} {8 if int(person) % 2 else 30}")
            tables["spk2gender"].append(f"{person} {'f' if int(person) % 4 < 2 else 'm'}")
            for number in range(10 if name == "train" else 4):
                words, samples = talker.sentence()
                utterance = f"{person}-{number:02}"
                write_sound(root / "audio" / f"{utterance}.wav", samples, 16_000)
                tables["wav.scp"].append(f"{utterance} audio/{utterance}.wav")
                tables["utt2spk"].append(f"{utterance} {person}")
                tables["text"].append(f"{utterance} {' '.join(words)}")
        for table, lines in tables.items():
            write_lines(root / name / table, lines)
    write_lines(root / "lexicon.txt", LEXICON.splitlines())
    return root


def _sentences(
    root: Path,
    folder: str,
    people: Sequence[str],
    count: int,
    *,
    seed: int,
    spoken: dict[str, str],
    noise: np.random.Generator | None = None,
    loud: float = 0.0,
) -> list[str]:
    listed = []
    for person, talker in talkers(people, 16_000, seed):
        for number in range(count):
            words, samples = talker.sentence()
            name = f"{person}c02{number:02d}"
            heard = samples if noise is None else samples + loud * noise.standard_normal(len(samples))
            path = root / folder / person / f"{name}.wv1"
            path.parent.mkdir(parents=True, exist_ok=True)
            (np.clip(heard, -1, 1) * 32767).astype(">i2").tofile(path)
            spoken[name] = " ".join(words)
            listed.append(f"{folder}/{person}/{name}.wv1")
    return listed
