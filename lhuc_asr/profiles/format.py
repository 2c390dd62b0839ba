"""A profile on disk: one speaker's parameters as safetensors, and a JSON page that says what they are and belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lhuc_asr.errors import ProfileError
from lhuc_asr.files import atomic_path, escape_id, read_json, sha256, write_json
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.units import Seconds

FORMAT_VERSION = 1
_LONGEST_STEM = 200


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What was learnt about one speaker, and for which model.

    Attributes:
        speaker: any id; it appears in the JSON page and escaped in the file name, never in a tensor's key.
        base_fingerprint: of the only model that these parameters fit.
        amplitude: how r becomes factors.
        r: site name -> (H,) parameters.
        seconds: speech that it was learnt from.
        objective_before: mean cross-entropy per frame on the supervision, at the start.
        objective_after: the same, at the end.
        settings: what it was learnt with, ready for JSON.
    """

    speaker: str
    base_fingerprint: str
    amplitude: Amplitude
    r: Mapping[str, Tensor]
    seconds: Seconds = 0.0
    objective_before: float | None = None
    objective_after: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def adapter(self) -> LhucAdapter:
        """The parameters, ready to be attached to the model."""
        return LhucAdapter(self.r, self.amplitude)


def profile_stem(speaker: str) -> str:
    """One safe file name, without extension, for any speaker id; different ids never share one.

    Example:
        >>> profile_stem("a b"), len(profile_stem("x" * 1000)) <= 200
        ('a%20b', True)
    """
    escaped = escape_id(speaker)
    if len(escaped) > _LONGEST_STEM:  # file systems allow 255 bytes; "%~" occurs in no escaped id
        digest = hashlib.sha256(speaker.encode()).hexdigest()
        return f"{escaped[: _LONGEST_STEM - 66]}%~{digest}"
    return escaped or "%"


def profile_path(directory: Path, speaker: str) -> Path:
    """Where the JSON page of a speaker's profile lies; its tensors lie beside it."""
    return directory / f"{profile_stem(speaker)}.json"


def remove_profile(directory: Path, speaker: str) -> None:
    """Delete a speaker's profile, if there is one, and leave no trace of it."""
    page = profile_path(directory, speaker)
    for path in (page, _tensors_path(page)):
        path.unlink(missing_ok=True)


def save_profile(profile: Profile, directory: Path) -> Path:
    """Write a profile, tensors first, each file whole or not at all; returns the path of the JSON page."""
    page = profile_path(directory, profile.speaker)
    tensors = _tensors_path(page)
    with atomic_path(tensors) as temporary:
        temporary.write_bytes(save({name: r.detach().cpu().contiguous() for name, r in profile.r.items()}))
    write_json(page, _page(profile, sha256(tensors)))
    return page


def _page(profile: Profile, digest: str) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "speaker": profile.speaker,
        "base_fingerprint": profile.base_fingerprint,
        "amplitude": profile.amplitude.value,
        "sites": {name: r.shape[-1] for name, r in profile.r.items()},
        "seconds": profile.seconds,
        "objective_before": profile.objective_before,
        "objective_after": profile.objective_after,
        "settings": dict(profile.settings),
        "tensors_sha256": digest,
    }


def load_profile(path: Path, *, fingerprint: str) -> Profile:
    """Read a profile and check that it is whole and belongs to this model.

    Args:
        path: the JSON page, or the tensors file beside it.
        fingerprint: of the model that it shall be used with.

    Raises:
        ProfileError: a file is missing or damaged, the format is newer, or the model is another.
    """
    page_path = path.with_name(path.name.removesuffix(".safetensors") + ".json") if path.suffix != ".json" else path
    page = _read_page(page_path)
    _check(page, page_path, fingerprint)
    tensors = _tensors_path(page_path)
    r = _read_tensors(tensors, page["tensors_sha256"])
    if {name: [size] for name, size in page["sites"].items()} != {name: list(value.shape) for name, value in r.items()}:
        raise ProfileError(f"{tensors}: the tensors are not the sites that {page_path.name} lists: {page['sites']}")
    return Profile(
        speaker=page["speaker"],
        base_fingerprint=page["base_fingerprint"],
        amplitude=Amplitude(page["amplitude"]),
        r={name: r[name] for name in page["sites"]},
        seconds=page["seconds"],
        objective_before=page["objective_before"],
        objective_after=page["objective_after"],
        settings=page["settings"],
    )


def _tensors_path(page: Path) -> Path:
    return page.with_name(page.name.removesuffix(".json") + ".safetensors")


def _read_page(path: Path) -> dict[str, Any]:
    try:
        page = read_json(path)
    except FileNotFoundError:
        raise ProfileError(f"no profile at {path}") from None
    except (ValueError, OSError) as error:
        raise ProfileError(f"{path} is damaged: {error}") from error
    if not isinstance(page, dict) or not isinstance(page.get("format_version"), int):
        raise ProfileError(f"{path} is not a profile: it names no format_version")
    return page


def _check(page: dict[str, Any], path: Path, fingerprint: str) -> None:
    if page["format_version"] > FORMAT_VERSION:
        raise ProfileError(
            f"{path} has format {page['format_version']}; this version reads up to {FORMAT_VERSION}: upgrade lhuc_asr"
        )
    lacking = [key for key in _KEYS if key not in page]
    if lacking:
        raise ProfileError(f"{path} is damaged: it lacks {', '.join(lacking)}")
    if page["base_fingerprint"] != fingerprint:
        raise ProfileError(
            f"{path} (speaker {page['speaker']!r}) was learnt for model {page['base_fingerprint'][:12]}, "
            f"this model is {fingerprint[:12]}; adapt the speaker again with this model"
        )
    if page["amplitude"] not in {kind.value for kind in Amplitude}:
        known = ", ".join(kind.value for kind in Amplitude)
        raise ProfileError(f"{path} has amplitude {page['amplitude']!r}; known are {known}")


_KEYS = (
    *("speaker", "base_fingerprint", "amplitude", "sites", "seconds"),
    *("objective_before", "objective_after", "settings", "tensors_sha256"),
)


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise ProfileError(f"the profile's tensors {path} are missing")
    if sha256(path) != digest:
        raise ProfileError(f"{path} is damaged or of another profile: its content differs from what its page recorded")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise ProfileError(f"{path} is damaged: {error}") from error
