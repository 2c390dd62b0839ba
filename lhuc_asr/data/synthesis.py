"""Speech from text: the espeak-ng synthesiser, through the library that the ``espeakng-loader`` wheel carries.

espeak-ng keeps hidden state between utterances (the phase of its flutter), which nothing resets, and seeds its noise
from the clock. Each ``Synthesiser`` therefore loads a private copy of the library and seeds it: the same calls in the
same order give the same samples, in any process, whatever was said before elsewhere.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DependencyError, nearest
from lhuc_asr.units import Hertz, Seconds

_SYNCHRONOUS, _UTF8, _PHONEMES, _WITH_PHONEME_EVENTS, _DO_NOT_EXIT = 2, 1, 0x100, 0x0001, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_PHONEME_EVENT = 7
_SPACE_BETWEEN_PHONES = ord(" ") << 8
_STRESS = "',%=|"
_VOWEL_INITIALS = "aeiouyAEIOUVY@0123456789"


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """Who speaks, in espeak-ng's terms.

    Attributes:
        language: name of a language voice, such as ``en-us`` or ``de``.
        variant: name of a voice variant, such as ``f2`` or ``Mario``; empty is the plain voice.
        rate: words per minute, 80 to 450.
        pitch: 0 to 100, the variant's own pitch is 50.
        pitch_range: 0 (monotone) to 100.
    """

    language: str = "en-us"
    variant: str = ""
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50

    @property
    def name(self) -> str:
        """The name that selects language and variant together."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


@dataclass(frozen=True, slots=True)
class SpokenPhone:
    """One phone as it was said: espeak-ng's mnemonic without stress (empty for a pause) and where it begins."""

    mnemonic: str
    start: Seconds


@dataclass(frozen=True)
class SyntheticSpeech:
    """One rendered utterance.

    Attributes:
        samples: (N,) float32 in [-1, 1].
        sampling_rate: of the samples; espeak-ng's is 22,050 Hz.
        phones: what was said, in order, pauses included.
    """

    samples: NDArray[np.float32]
    sampling_rate: Hertz
    phones: tuple[SpokenPhone, ...]


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _loader() -> Any:
    try:
        import espeakng_loader
    except ImportError as error:
        raise DependencyError(
            "speech synthesis needs the package 'espeakng-loader', which is not installed: "
            "pip install 'lhuc_asr[demo]' (or: pip install espeakng-loader)"
        ) from error
    return espeakng_loader


@cache
def voice_variants() -> tuple[str, ...]:
    """Names of the voice variants that espeak-ng carries, sorted.

    Raises:
        DependencyError: the wheel ``espeakng-loader`` is absent.
    """
    return tuple(sorted(path.name for path in (Path(_loader().get_data_path()) / "voices" / "!v").iterdir()))


class Synthesiser:
    """A speaking machine with no memory of what other synthesisers said.

    Args:
        seed: of the noise in the voice, from 0.

    Raises:
        DependencyError: the wheel ``espeakng-loader`` is absent or its library does not load.

    Example:
        >>> speech = Synthesiser().say("hello world", Voice(variant="f2"))
        >>> speech.sampling_rate, speech.samples.dtype.name
        (22050, 'float32')
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._next_seed = seed % 2**31
        self._library = _private_copy(Path(_loader().get_library_path()))
        self._blocks: list[NDArray[np.int16]] = []
        self._phones: list[SpokenPhone] = []
        self._voice = ""
        options = _WITH_PHONEME_EVENTS | _DO_NOT_EXIT
        data_path = str(_loader().get_data_path()).encode()
        self.sampling_rate: Hertz = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data_path, options)
        if self.sampling_rate <= 0:
            raise DependencyError(
                f"espeak-ng finds no usable voices in {data_path.decode()!r}: reinstall espeakng-loader"
            )
        self._callback = _Callback(self._receive)  # kept: the library holds only its address
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(self._next_seed))

    def say(self, text: str, voice: Voice) -> SyntheticSpeech:
        """Render a text; parts in ``[[...]]`` are espeak-ng's phone mnemonics.

        Raises:
            ConfigError: the voice's language or variant does not exist.
        """
        self._select(voice)
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._blocks, self._phones = [], []
        self._seed_shared_noise()
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8 | _PHONEMES, None, None)
        samples = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
        return SyntheticSpeech(samples.astype(np.float32) / 32768.0, self.sampling_rate, tuple(self._phones))

    def phones_of(self, text: str, *, language: str = "en-us") -> tuple[str, ...]:
        """How a language's rules pronounce a text: mnemonics, a primary stress marked ``'``, a secondary one ``,``."""
        self._select(Voice(language=language))
        buffer = ctypes.create_string_buffer(text.encode())
        position = ctypes.c_void_p(ctypes.addressof(buffer))
        phones = self._library.espeak_TextToPhonemes(ctypes.byref(position), _UTF8, _SPACE_BETWEEN_PHONES)
        return tuple(phones.decode().split())

    def can_say(self, mnemonic: str, *, language: str) -> bool:
        """Whether a language's voice has a phone of this mnemonic (of several, whether it has them all)."""
        before, after = ("t'", "ta") if mnemonic[0] in _VOWEL_INITIALS else ("a", "'a")
        speech = self.say(f"[[{before}{mnemonic}{after}]]", Voice(language=language))
        spoken = [phone.mnemonic for phone in speech.phones if phone.mnemonic]  # ends at what the voice does not know
        return spoken[:1] == [before[0]] and spoken[-1:] == ["a"] and len(spoken) > len(after.strip("'")) + 1

    def _select(self, voice: Voice) -> None:
        if voice.name == self._voice:
            return
        if voice.variant and voice.variant not in voice_variants():
            close = nearest(voice.variant, list(voice_variants()))
            raise ConfigError(f"espeak-ng has no voice variant {voice.variant!r}; nearest: {close}")
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ConfigError(f"espeak-ng has no voice for the language {voice.language!r}, such as 'en-us' or 'de'")
        self._voice = voice.name

    def _seed_shared_noise(self) -> None:
        """The Klatt voices draw from the C library's generator, which every copy of espeak-ng in the process shares."""
        self._library.srand(ctypes.c_uint(self._next_seed))
        self._next_seed += 1

    def _receive(self, wave: Any, num_samples: int, events: Any) -> int:
        if num_samples > 0:
            self._blocks.append(np.ctypeslib.as_array(wave, (num_samples,)).copy())
        index = 0
        while events and events[index].type:
            if events[index].type == _PHONEME_EVENT:
                mnemonic = bytes(events[index].id.string).decode(errors="replace").strip(_STRESS)
                mnemonic = "" if mnemonic.startswith("_") else mnemonic
                self._phones.append(SpokenPhone(mnemonic, events[index].audio_position / 1000.0))
            index += 1
        return 0


def _private_copy(library: Path) -> Any:
    with tempfile.TemporaryDirectory(prefix="lhuc-synthesis-") as folder:
        try:
            loaded = ctypes.CDLL(str(shutil.copy(library, folder)))
        except OSError as error:
            raise DependencyError(
                f"the synthesiser of espeakng-loader does not load ({error}): reinstall espeakng-loader, "
                "or set TMPDIR to a folder where programs may run"
            ) from error
    loaded.espeak_TextToPhonemes.restype = ctypes.c_char_p
    loaded.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
    text, size, pointer = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p
    loaded.espeak_Synth.argtypes = [text, size, *[ctypes.c_uint] * 4, pointer, pointer]
    return loaded
