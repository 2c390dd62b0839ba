"""Speakers who learn side by side: tables of parameters with a row for each, and steps that move everybody's row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lhuc_asr.adaptation.lower_part import GroupFrames, device_of, highest_split
from lhuc_asr.adaptation.minibatches import JointMinibatch, SpeakerFrames, joint_minibatches
from lhuc_asr.adaptation.objective import Objective, opened_objective
from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import amplitude
from lhuc_asr.lhuc.hooks import refuse_attached
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.precision import Precision, resolve

CACHE_BYTES = 2**30
"""Memory for what lies below the first site, of one group: 1 GiB, 22 minutes of speech with 2048 units."""

_MEASURED_FRAMES = 1024


@contextmanager
def opened_group(
    network: AcousticNetwork,
    adapters: Sequence[LhucAdapter],
    speakers: Sequence[SpeakerFrames],
    *,
    seed: int = 0,
    precision: Precision = Precision.float32,
    cache_bytes: int = CACHE_BYTES,
) -> Iterator[SpeakerGroup]:
    """Prepare speakers to learn side by side inside the block; what lies below the first site is computed now.

    Args:
        network: in evaluation mode, on any device; nothing of it changes.
        adapters: one for each speaker, all of the same sites and amplitude; where everybody begins.
        speakers: what each is learnt from, every frame with a target.
        seed: of the order of each speaker's frames.
        precision: of the matrix products; parameters and their derivatives are never of less than single precision.
        cache_bytes: the output of the part below the first site is kept if it is no bigger than that.

    Raises:
        SiteError: the adapters differ in sites or amplitude, the network lacks a site, or scales are attached to it.
    """
    first = adapters[0]
    if any(adapter.sites != first.sites or adapter.kind is not first.kind for adapter in adapters):
        raise SiteError("speakers are adapted together only when they have the same sites and amplitude")
    refuse_attached(network)
    window = speakers[0].frames.windows(torch.zeros(1, dtype=torch.int64))
    split = highest_split(network, [site.name for site in first.sites], window)
    halved = resolve(precision, device_of(network)) is Precision.bfloat16
    dtype = torch.bfloat16 if halved else None
    frames = GroupFrames(network, speakers, split, cache_bytes=cache_bytes, dtype=dtype)
    with opened_objective(network, first.sites, split, dtype=dtype) as objective:
        yield SpeakerGroup(objective, frames, adapters, seed)


class SpeakerGroup:
    """Speakers who learn side by side, addressed by their places; `opened_group` makes one.

    A step descends the sum of the speakers' mean cross-entropies. A row of the tables acts on its own speaker's frames
    alone, and nothing but it is moved by them.

    Attributes:
        sizes: frames of each speaker.
    """

    def __init__(self, objective: Objective, frames: GroupFrames, adapters: Sequence[LhucAdapter], seed: int) -> None:
        self.sizes = frames.sizes
        self._objective, self._frames, self._adapters = objective, frames, adapters
        self._kind = adapters[0].kind
        self._generators = [torch.Generator().manual_seed(seed) for _ in adapters]
        self._tables = {name: torch.stack([adapter.r[name].detach() for adapter in adapters]) for name in adapters[0].r}

    def sweep(self, places: Sequence[int], *, lr_at: Callable[[float], float], batch_size: int) -> list[float]:
        """Pass over all frames of some speakers once, each speaker's in an order of its own.

        Args:
            places: who takes part.
            lr_at: step of plain gradient descent on each speaker's mean cross-entropy, by the share of the sweep (0 to
                1) that the speaker has behind.
            batch_size: frames of each speaker in a step.

        Returns:
            For every speaker the mean of the objectives on the way; 0 for those who took no part.
        """
        orders = {place: torch.randperm(self.sizes[place], generator=self._generators[place]) for place in places}
        totals = _Totals(self.sizes)
        for step, batch in enumerate(joint_minibatches(orders, batch_size)):
            which = self._which(batch)
            lrs = [lr_at(step / -(-self.sizes[place] // batch_size)) for place in batch.speakers]
            r = {name: _rows_of(table, which).requires_grad_() for name, table in self._tables.items()}
            with torch.enable_grad():
                factors = {name: amplitude(values, self._kind) for name, values in r.items()}
            losses, by_factors = self._objective.losses_and_gradients(self._frames.take(batch), _detached(factors))
            gradients = torch.autograd.grad(list(factors.values()), list(r.values()), by_factors)
            for table, gradient in zip(self._tables.values(), gradients, strict=True):
                _descend(table, which, gradient, lrs)
            totals.add(batch, losses)
        return totals.means()

    def measure(self) -> list[float]:
        """Mean cross-entropy of every speaker's frames with the parameters as they are."""
        totals = _Totals(self.sizes)
        orders = {place: torch.arange(size) for place, size in enumerate(self.sizes)}
        for batch in joint_minibatches(orders, max(1, _MEASURED_FRAMES // len(orders))):
            which = self._which(batch)
            factors = {name: amplitude(_rows_of(table, which), self._kind) for name, table in self._tables.items()}
            totals.add(batch, self._objective.losses(self._frames.take(batch), factors))
        return totals.means()

    def store(self, places: Sequence[int]) -> None:
        """Put what these speakers have learnt into their adapters."""
        for name, table in self._tables.items():
            for place in places:
                self._adapters[place].r[name].data.copy_(table[place])

    def _which(self, batch: JointMinibatch) -> Tensor | None:
        """Rows of the tables of those who take part; None means all."""
        if len(batch.speakers) == len(self.sizes):
            return None
        return torch.tensor(batch.speakers, device=self._frames.device)


class _Totals:
    """Sums of objectives over frames, one for each speaker, fetched from the device only at the end."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._steps: list[tuple[JointMinibatch, Tensor]] = []

    def add(self, batch: JointMinibatch, losses: Tensor) -> None:
        """(S,) mean objectives of those who take part in a step."""
        self._steps.append((batch, losses))

    def means(self) -> list[float]:
        """Mean over each speaker's frames; 0 for those who took no part."""
        sums = [0.0] * len(self._sizes)
        values = iter(torch.cat([losses for _, losses in self._steps]).tolist() if self._steps else [])
        for batch, _ in self._steps:
            for place, count in zip(batch.speakers, batch.rows.counts, strict=True):
                sums[place] += next(values) * count
        return [total / size for total, size in zip(sums, self._sizes, strict=True)]


def _rows_of(table: Tensor, which: Tensor | None) -> Tensor:
    return table.detach() if which is None else table.index_select(0, which)


def _descend(table: Tensor, which: Tensor | None, gradient: Tensor, lrs: Sequence[float]) -> None:
    """One step of plain gradient descent for the speakers who take part, each by its own row and length."""
    lr = lrs[0]
    if len(set(lrs)) > 1:
        gradient = gradient * gradient.new_tensor(lrs).view(-1, *[1] * (gradient.ndim - 1))
        lr = 1.0
    if which is None:
        table.sub_(gradient, alpha=lr)
    else:
        table.index_add_(0, which, gradient, alpha=-lr)


def _detached(factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: values.detach() for name, values in factors.items()}
