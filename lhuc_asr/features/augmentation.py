"""Training on more voices than there are: filterbanks are warped along frequency and parts of them are hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lhuc_asr.errors import ConfigError
from lhuc_asr.features.vocal_tract import require_warp
from lhuc_asr.ranges import require_at_least, require_share
from lhuc_asr.units import Hertz

# B windows (or utterances), T frames, F mel bins, K steps of the warping factor


@dataclass(kw_only=True, slots=True)
class AugmentationConfig:
    """How strongly normalised filterbanks are changed while training; the defaults change nothing.

    Attributes:
        warp: vocal tract lengths are drawn from 1 - warp to 1 + warp.
        num_freq_masks: bands that are hidden in each window, or in each utterance.
        max_freq_mask: widest band, in mel bins; the width is drawn from 0 to this.
        num_time_masks: stretches that are hidden in each window, or in each utterance.
        max_time_mask: longest stretch, in frames; the length is drawn from 0 to this.
        max_time_share: a stretch is no longer than this share of its window or utterance, so that short ones keep
            most of their words.
        share: share of the windows that are changed.

    Source: Park et al. 2019, "SpecAugment" (arXiv:1904.08779): F, T and p are here max_freq_mask, max_time_mask and
    max_time_share.
    """

    warp: float = 0.0
    num_freq_masks: int = 0
    max_freq_mask: int = 6
    num_time_masks: int = 0
    max_time_mask: int = 3
    max_time_share: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        require_warp(self.warp, "augmentation")
        require_share(self, "augmentation", "share", "max_time_share")
        require_at_least(0, self, "augmentation", "num_freq_masks", "max_freq_mask", "num_time_masks", "max_time_mask")

    @property
    def is_active(self) -> bool:
        """Whether anything is changed at all."""
        return self.share > 0 and (self.warp > 0 or self.hides)

    @property
    def wants_bins(self) -> bool:
        """Whether frequencies are changed, for which features must be mel bins."""
        return self.warp > 0 or self.num_freq_masks * self.max_freq_mask > 0

    @property
    def hides(self) -> bool:
        """Whether anything is hidden."""
        return self.num_freq_masks * self.max_freq_mask + self.num_time_masks * self.max_time_mask > 0


class Augmentation:
    """Changes windows or utterances of normalised filterbanks at random; each gets its own warp and masks.

    Args:
        config: how strongly.
        num_mel_bins: F; a last dimension of a multiple of it is taken as features followed by their deltas. Where only
            stretches of time are hidden, features may be of any kind.
        sampling_rate: of the audio.
        low_freq: lower edge of the lowest filter, in hertz.
        high_freq: upper edge of the highest filter, in hertz; 0 or less counts from half the sampling rate.

    Example:
        >>> augmentation = Augmentation(AugmentationConfig(warp=0.1, num_freq_masks=1), num_mel_bins=40)
        >>> windows = torch.zeros(8, 11, 40)
        >>> augmentation(windows, torch.Generator().manual_seed(1)).shape
        torch.Size([8, 11, 40])
    """

    NUM_WARPS = 21

    def __init__(
        self,
        config: AugmentationConfig,
        *,
        num_mel_bins: int,
        sampling_rate: Hertz = 16000,
        low_freq: float = 20.0,
        high_freq: float = 0.0,
    ) -> None:
        self.config = config
        self.num_mel_bins = num_mel_bins
        highest = high_freq if high_freq > 0 else sampling_rate / 2 + high_freq
        factors = torch.linspace(1 - config.warp, 1 + config.warp, self.NUM_WARPS)
        places = warped_places(factors, num_mel_bins, low_freq=low_freq, high_freq=highest)
        self._warps = interpolation(places)

    def __call__(self, windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Change some windows.

        Args:
            windows: (B, T, F) or (T, F) normalised filterbanks without padding, so that 0 is the mean; F may hold
                deltas too.
            generator: decides everything that is drawn, on the CPU.

        Returns:
            A new tensor of the same shape; where nothing is to be changed, the one given.

        Raises:
            ConfigError: the features are not filterbanks of that many bins.
        """
        if not self.config.is_active:
            return windows
        if self.config.wants_bins and windows.shape[-1] % self.num_mel_bins:
            raise ConfigError(
                f"augmentation works on filterbanks of {self.num_mel_bins} mel bins and their deltas, "
                f"found {windows.shape[-1]} values a frame"
            )
        x_BTF = windows if windows.ndim == 3 else windows[None]
        num_bins = self.num_mel_bins if self.config.wants_bins else x_BTF.shape[-1]
        x_BTSF = x_BTF.reshape(*x_BTF.shape[:2], -1, num_bins)
        changed = x_BTSF
        if self.config.warp:
            changed = self._warped(changed, generator)
        if self.config.hides:
            hidden_BTF = self._hidden(len(x_BTF), x_BTF.shape[1], num_bins, generator).to(windows.device)
            changed = changed.masked_fill(hidden_BTF[:, :, None], 0.0)
        if self.config.share < 1:
            chosen_B = (torch.rand(len(x_BTF), generator=generator) < self.config.share).to(windows.device)
            changed = torch.where(chosen_B[:, None, None, None], changed, x_BTSF)
        return changed.flatten(-2).view_as(windows)

    def _warped(self, x_BTSF: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Read every window at other frequencies, between two bins by interpolation."""
        which_B = torch.randint(self.NUM_WARPS, (len(x_BTSF),), generator=generator)
        warps_BFF = self._warps.to(x_BTSF)[which_B.to(x_BTSF.device)]
        return torch.bmm(x_BTSF.flatten(1, 2), warps_BFF).view_as(x_BTSF)

    def _hidden(self, num_windows: int, num_frames: int, num_bins: int, generator: torch.Generator) -> torch.Tensor:
        """(B, T, F) true where a band or a stretch is hidden."""
        config = self.config
        hidden = torch.zeros(num_windows, num_frames, num_bins, dtype=torch.bool)
        for _ in range(config.num_freq_masks):
            hidden |= _spans(num_windows, num_bins, config.max_freq_mask, generator)[:, None, :]
        longest = min(config.max_time_mask, math.floor(config.max_time_share * num_frames + 1e-6))
        for _ in range(config.num_time_masks):
            hidden |= _spans(num_windows, num_frames, longest, generator)[:, :, None]
        return hidden


def warped_places(factors: torch.Tensor, num_mel_bins: int, *, low_freq: float, high_freq: float) -> torch.Tensor:
    """Where to read a filterbank so that it sounds like a vocal tract of another length.

    Args:
        factors: (K,) every frequency is multiplied by this.
        num_mel_bins: F.
        low_freq: lower edge of the lowest filter, in hertz.
        high_freq: upper edge of the highest filter, in hertz.

    Returns:
        (K, F) places in bins, 0 to F - 1, with fractions.

    Source: Jaitly & Hinton 2013, "Vocal Tract Length Perturbation improves speech recognition", on mel bins.
    """
    low, high = _mel(torch.tensor(low_freq)), _mel(torch.tensor(high_freq))
    step = (high - low) / (num_mel_bins + 1)
    centres_F = low + step * torch.arange(1, num_mel_bins + 1)
    warped_KF = _mel(_hertz(centres_F) * factors[:, None])
    return ((warped_KF - low) / step - 1).clamp(0, num_mel_bins - 1)


def interpolation(places_KF: torch.Tensor) -> torch.Tensor:
    """Reading at fractional places as a product: row vector times matrix.

    Args:
        places_KF: (K, F) places, 0 to F - 1.

    Returns:
        (K, F, F); each column weighs the two bins beside its place, and its weights add up to 1.

    Example:
        >>> (torch.tensor([10.0, 20.0, 30.0]) @ interpolation(torch.tensor([[0.0, 0.5, 2.0]]))[0]).tolist()
        [10.0, 15.0, 30.0]
    """
    bins_F = torch.arange(places_KF.shape[1], dtype=places_KF.dtype)
    return (1 - (places_KF[:, None, :] - bins_F[None, :, None]).abs()).clamp(min=0)


def _spans(num_rows: int, length: int, longest: int, generator: torch.Generator) -> torch.Tensor:
    """(num_rows, length) true in one random stretch of each row, of 0 to ``longest`` places."""
    widths = torch.randint(min(longest, length) + 1, (num_rows, 1), generator=generator)
    starts = (torch.rand(num_rows, 1, generator=generator) * (length - widths + 1)).long()
    places = torch.arange(length)
    return (places >= starts) & (places < starts + widths)


def _mel(hertz: torch.Tensor) -> torch.Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


def _hertz(mel: torch.Tensor) -> torch.Tensor:
    return 700.0 * torch.expm1(mel / 1127.0)
