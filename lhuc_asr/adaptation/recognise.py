"""Recognition of several speakers, each with the profile that was learnt for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.adaptation.keys import Feats
from lhuc_asr.decoding.hypothesis import Hypothesis
from lhuc_asr.decoding.speed import DecodingSpeed, SpeedMeter
from lhuc_asr.errors import DecodingError, ProfileError
from lhuc_asr.parallel import one_thread
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.store import ProfileStore
from lhuc_asr.progress import track
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.recognise import decoder_of


@dataclass(frozen=True, eq=False)
class Recognition:
    """What was recognised.

    Attributes:
        hypotheses: utterance id -> best path.
        failed: utterance id -> why there is none.
        speed: of the search.
    """

    hypotheses: Mapping[str, Hypothesis]
    failed: Mapping[str, str]
    speed: DecodingSpeed


@dataclass(frozen=True)
class KnownProfiles:
    """The profiles of several speakers from one store, all of one model.

    Attributes:
        path: of the store; the folder to which ``lhuc-adapt`` writes is one.
        fingerprint: of the model.
        profiles: speaker -> profile, of those who have one.
    """

    path: Path
    fingerprint: str
    profiles: Mapping[str, Profile] = field(default_factory=dict)

    @staticmethod
    def open(path: Path, speakers: tuple[str, ...], *, fingerprint: str) -> KnownProfiles:
        """Load the profiles of these speakers, as far as there are any.

        Raises:
            ProfileError: there is no such store or not one profile of theirs in it, or a profile is damaged, of a newer
                format, or of another model.
        """
        store = ProfileStore.open(path, fingerprint=fingerprint)
        found = {speaker: store.get(speaker) for speaker in speakers if speaker in store}
        store.close()
        if not found:
            inside = path / "profiles"
            advice = f"; try '{inside}'" if inside.is_dir() else ""
            names = ", ".join(map(repr, speakers[:3])) + (", ..." if len(speakers) > 3 else "")
            raise ProfileError(f"'{path}' holds no profile of any speaker asked for ({names}){advice}")
        return KnownProfiles(path, fingerprint, found)

    def manifest(self) -> dict[str, str]:
        """Speaker -> SHA-256 of the profile, of all that decides how the speaker is recognised."""
        return {speaker: profile.sha256 for speaker, profile in self.profiles.items()}


def recognise(
    system: AcousticSystem,
    feats: Feats,
    speaker_of: Mapping[str, str],
    profiles: Mapping[str, Profile],
    *,
    num_jobs: int = 1,
) -> Recognition:
    """Decode utterances, each with its speaker's profile; speakers without one get the speaker-independent model.

    Args:
        system: the model; nothing of it changes.
        feats: utterance id -> (T, F) normalised.
        speaker_of: utterance id -> speaker.
        profiles: speaker -> profile.
        num_jobs: processes.
    """
    adapters = {speaker: profile.adapter() for speaker, profile in profiles.items()}

    def items() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for utterance, matrix in feats.items():
            adapter = adapters.get(speaker_of[utterance])
            attached = adapter.attached(system.network) if adapter else nullcontext()
            with one_thread(when=num_jobs > 1), attached:
                log_likes = system.log_likes(matrix)
            yield utterance, log_likes

    failed: dict[str, str] = {}
    decoder, meter = decoder_of(system), SpeedMeter()

    def note(utterance: str, error: DecodingError) -> None:
        failed[utterance] = str(error)

    stream = decoder.decode_all(items(), num_jobs=num_jobs, meter=meter, on_failure=note)
    found = {hypothesis.utterance: hypothesis for hypothesis in track(stream, "decoding", total=len(feats))}
    return Recognition(found, failed, meter.speed)
