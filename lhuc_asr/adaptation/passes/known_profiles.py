"""Profiles of several speakers, with which each is recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.store import ProfileStore, no_profiles
from lhuc_asr.system.settings import canonical


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
            names = ", ".join(map(repr, speakers[:3])) + (", ..." if len(speakers) > 3 else "")
            raise no_profiles(path, f"no profile of any speaker asked for ({names})")
        return KnownProfiles(path, fingerprint, found)

    def manifest(self) -> dict[str, str]:
        """Speaker -> SHA-256 of the profile, of all that decides how the speaker is recognised."""
        return {speaker: profile.sha256 for speaker, profile in self.profiles.items()}

    @property
    def unlike_most(self) -> tuple[str, ...]:
        """Speakers whose profiles were learnt under other settings than most, such as in an earlier run."""
        settings = {speaker: _settings(profile) for speaker, profile in self.profiles.items()}
        common = Counter(settings.values()).most_common(1)
        return tuple(speaker for speaker, own in settings.items() if own != common[0][0])

    def adapting(
        self, network: nn.Module, speaker_of: Mapping[str, str]
    ) -> Callable[[str], AbstractContextManager[Any]]:
        """Gives each utterance the context in which its speaker's scales are attached to the network.

        Utterances of speakers without a profile are computed by the network alone.

        Args:
            network: of the model.
            speaker_of: utterance id -> speaker.
        """
        adapters = {speaker: profile.adapter() for speaker, profile in self.profiles.items()}

        def attached(utterance: str) -> AbstractContextManager[Any]:
            adapter = adapters.get(speaker_of[utterance])
            return adapter.attached(network) if adapter else nullcontext()

        return attached


def _settings(profile: Profile) -> str:
    """What the user had decided about the adaptation."""
    return canonical({name: profile.settings.get(name) for name in ("lhuc", "adapt", "protocol", "guard")})
