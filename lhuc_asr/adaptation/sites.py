"""The layers of a network that are adapted, each proved to act."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lhuc_asr.adaptation.lower_part import device_of
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.network import AcousticNetwork

_WINDOW_FRAMES = 16
_UTTERANCES = (24, 17)


def proved_sites(network: AcousticNetwork, layers: Sequence[int | str]) -> tuple[Site, ...]:
    """The sites that a configuration asks for.

    Where a network takes whole utterances, it is watched at work on two of them, so that utterances of several
    speakers can be told apart in what its layers give.

    Args:
        network: frozen, in evaluation mode.
        layers: numbers of its natural sites from 1, or patterns of layer names; none means all natural sites.

    Raises:
        SiteError: a layer does not exist, cannot carry scales, or does not act.
    """
    generator = torch.Generator().manual_seed(0)
    if network.learns_from_frames:
        sites = choose_sites(network, network.adaptation_sites, layers)
        feats_BTF = torch.randn(1, _WINDOW_FRAMES, network.feat_dim, generator=generator)
        prove_sites_act(network, sites, feats_BTF.to(device_of(network)))
        return sites
    feats_BTF = torch.randn(len(_UTTERANCES), max(_UTTERANCES), network.feat_dim, generator=generator)
    feats_BTF = feats_BTF.to(device_of(network))
    example = Example((feats_BTF, torch.tensor(_UTTERANCES)))
    sites = choose_sites(network, network.adaptation_sites, layers, example=example)
    prove_sites_act(network, sites, example)
    return sites
