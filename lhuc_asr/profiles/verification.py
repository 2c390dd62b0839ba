"""The proof chain for a stored profile: it belongs to the model, acts, comes back bit for bit, leaves no trace."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.profiles.format import load_profile, save_profile
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.tensors import digest


@dataclass(frozen=True)
class Verified:
    """What was proved of a profile.

    Attributes:
        num_sites: sites, each of which acts.
        num_units: scales of all sites.
        effect: mean absolute change of the model's output for the example; 0 only where a guard put all scales to 1.
    """

    num_sites: int
    num_units: int
    effect: float

    def __str__(self) -> str:
        return f"{self.num_sites} sites, {self.num_units} units, the output moves by {self.effect:.3g} on average"


class ProfileVerifier:
    """Runs the proof chain against one model; what needs no profile is done once.

    Args:
        model: in evaluation mode.
        fingerprint: of the model.
        example: a tensor, a tuple of arguments, a mapping of keyword arguments, or an `Example`; a few frames do.

    Example:
        >>> from lhuc_asr.lhuc.amplitude import Amplitude
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2)).eval()
        >>> verifier = ProfileVerifier(net, "f" * 64, torch.ones(4, 3))
        >>> r = {"1": torch.full((5,), 0.5)}
        >>> profile = Profile(speaker="a", base_fingerprint="f" * 64, amplitude=Amplitude.exp, r=r)
        >>> verifier.verify(profile).num_units
        5
    """

    def __init__(self, model: nn.Module, fingerprint: str, example: Any) -> None:
        self._model, self._fingerprint, self._example = model, fingerprint, Example.of(example)
        self._weights = digest(model.state_dict())
        self._plain = self._output()
        self._proved: set[Any] = set()

    def verify(self, profile: Profile) -> Verified:
        """Prove all that can be proved of one profile.

        Raises:
            ProfileError: it belongs to another model, has no effect, does not come back as it was saved, or leaves a
                trace in the model.
            SiteError: the model lacks a site, or a site does not act.
        """
        if profile.base_fingerprint != self._fingerprint:
            raise ProfileError(
                f"it was learnt for model {profile.base_fingerprint[:12]}, this model is {self._fingerprint[:12]}"
            )
        self._prove_sites(profile)
        adapted = self._output(profile)
        if not torch.isfinite(adapted).all():
            raise ProfileError("with this profile the model's output is not finite")
        self._prove_return(profile, adapted)
        if not torch.equal(self._output(), self._plain):
            raise ProfileError("the profile left a trace: detached, the model's output is another than before")
        effect = float((adapted.double() - self._plain.double()).abs().mean())
        if effect == 0 and not _is_identity(profile):
            raise ProfileError("it has no effect: the model's output is the same with and without it")
        return Verified(len(profile.r), profile.num_parameters, effect)

    def verify_model(self) -> None:
        """Prove that the model's weights are what they were when the first profile was verified.

        Raises:
            ProfileError: a weight has changed.
        """
        if digest(self._model.state_dict()) != self._weights:
            raise ProfileError("the model's weights have changed while profiles were attached and detached")

    def _prove_sites(self, profile: Profile) -> None:
        """Sites are shaken whatever the profile's scales are: once for all profiles that share them."""
        sites = profile.adapter().sites
        if sites not in self._proved:
            prove_sites_act(self._model, sites, self._example)
            self._proved.add(sites)

    def _prove_return(self, profile: Profile, adapted: Tensor) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = save_profile(profile, Path(directory))
            again = load_profile(path, fingerprint=self._fingerprint)
        if not torch.equal(self._output(again), adapted):
            raise ProfileError("saved and loaded again, it gives another output")

    def _output(self, profile: Profile | None = None) -> Tensor:
        if profile is None:
            return self._example.output(self._model)
        with profile.adapter().attached(self._model, prove=False):
            return self._example.output(self._model)


def _is_identity(profile: Profile) -> bool:
    """Whether a guard found that this speaker is best recognised without scales."""
    fell_back = (profile.guard or {}).get("verdict") == "fell back"
    return fell_back and all(bool((factors == 1).all()) for factors in profile.adapter().scales().values())
