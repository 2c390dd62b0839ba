"""What lhuc-profiles prints and draws of profiles, layer by layer, and the verifier of a model directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from lhuc_asr.profiles.comparison import MOVED, SiteDifference
from lhuc_asr.profiles.prior import ScalePrior
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.verification import ProfileVerifier
from lhuc_asr.scoring.picture import draw_scales
from lhuc_asr.scoring.table import table
from lhuc_asr.system.model_directory import load_system

_MOVED_NOTE = f"moved: units whose factor is more than {MOVED:g} from"
_PROBE_FRAMES = 32


def scales_table(profile: Profile) -> str:
    """A row for each site: units, layout, and how its factors are spread."""
    rows = [["site", "units", "layout", "mean", "sd", "min", "max", "moved"]]
    for name, factors in profile.adapter().scales().items():
        moved = float(((factors - 1).abs() > MOVED).float().mean())
        spread = [factors.mean(), factors.std(correction=0), factors.min(), factors.max()]
        units = "x".join(map(str, factors.shape))
        told = [f"{float(value):.3f}" for value in spread]
        rows.append([name, units, profile.layouts[name], *told, f"{100 * moved:.0f} %"])
    return f"{table(rows)}\n{_MOVED_NOTE} 1"


def difference_table(sites: Mapping[str, SiteDifference]) -> str:
    """A row for each site: how much its factors changed."""
    rows = [["site", "units", "mean change", "max change", "correlation", "moved"]]
    for name, site in sites.items():
        correlation = "-" if site.correlation is None else f"{site.correlation:.3f}"
        changes = [f"{site.mean_change:.4f}", f"{site.max_change:.4f}", correlation, f"{100 * site.share_moved:.0f} %"]
        rows.append([name, str(site.num_units), *changes])
    return f"{table(rows)}\n{_MOVED_NOTE} where it was"


def prior_table(prior: ScalePrior) -> str:
    """A row for each site: where its units lie on average, and how they differ between speakers."""
    rows = [["site", "units", "mean of r", "sd of means", "sd between speakers", "least", "most"]]
    for name, mean in prior.mean.items():
        spread = prior.variance[name].sqrt()
        told = [mean.mean(), mean.std(correction=0), prior.variance[name].mean().sqrt(), spread.min(), spread.max()]
        units = "x".join(map(str, mean.shape))
        rows.append([name, units, *(f"{float(value):.4f}" for value in told)])
    total = sum(float(variance.sum()) for variance in prior.variance.values())
    share = 100 * float(prior.direction_variance.sum()) / total
    return f"{table(rows)}\n{prior.num_directions} directions hold {share:.0f} % of the variance"


def draw_profile(path: Path, profile: Profile, *, title: str) -> None:
    """A PNG of the scales of every layer."""
    scales = {site: scale.flatten().numpy() for site, scale in profile.adapter().scales().items()}
    draw_scales(path, {profile.speaker: scales}, title=title)


def verifier_of(directory: Path) -> ProfileVerifier:
    """The verifier of profiles of a model directory; the example is noise.

    Raises:
        ModelError: the directory is incomplete, altered or of a newer format.
    """
    system = load_system(directory)
    noise_BTF = torch.randn(2, _PROBE_FRAMES, system.network.feat_dim, generator=torch.Generator().manual_seed(0))
    return ProfileVerifier(system.network, system.fingerprint, noise_BTF)
