"""A table with a row of parameters for every speaker, of which a minibatch touches only the rows that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude, amplitude, identity_r
from lhuc_asr.lhuc.hooks import attached_scales, bare
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.rows import SPEAKER_INDEPENDENT
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.lhuc.utterances import scale_ragged

# Letters of the shapes: S + 1 rows of the table, U rows that a minibatch touches, B examples of a minibatch, D
# parameters of all sites together, H those of one site.


@dataclass(frozen=True, eq=False)
class RowGradients:
    """Derivatives by the rows that some minibatches touched.

    Attributes:
        rows: (U,) which rows, each once, ascending; on the table's device.
        gradients: (U, D) of the objective by them, likewise.
    """

    rows: Tensor
    gradients: Tensor


@dataclass(frozen=True, eq=False)
class _Minibatch:
    """The rows of one minibatch: U different ones, (U, D) factors, and (B,) which of them each example has."""

    factors: Mapping[str, Tensor]
    place: Tensor


class ScaleTable:
    """The parameters of S speakers and, in row 0, of the speaker-independent network, for training all of them.

    A minibatch takes copies of the rows that it touches, so that neither gradient nor step ever have the size of the
    table, which may lie in the memory of the processor while the network is on a GPU. `SpeakerBank` is the thing for
    recognition: it is thread-safe, knows speakers by their ids and grows.

    Args:
        sites: what is scaled; examples must be told apart by ``B`` or ``N``. Of sites with a ``*``, the first dimension
            of outputs is that of the examples.
        num_speakers: S.
        kind: how parameters become factors.
        like: precision and device of the table.

    Attributes:
        r: (S + 1, D) parameters, the sites one beside the other.

    Example:
        >>> from lhuc_asr.lhuc.finding import find_sites
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2))
        >>> table = ScaleTable(find_sites(net, "1"), num_speakers=40)
        >>> with table.attached(net):
        ...     with table.given(torch.tensor([7, 0, 7])):
        ...         net(torch.ones(3, 3)).sum().backward()
        >>> found = table.take_gradients()
        >>> found.rows, found.gradients.shape
        (tensor([0, 7]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        sites: Sequence[Site],
        num_speakers: int,
        kind: Amplitude = Amplitude.exp,
        like: Tensor | None = None,
    ) -> None:
        self.sites, self.kind = tuple(sites), kind
        self._widths = [site.num_units for site in self.sites]
        start = torch.empty(0) if like is None else like
        self.r = start.new_full((1 + num_speakers, sum(self._widths)), identity_r(kind))
        self._minibatch: _Minibatch | None = None
        self._touched: list[tuple[Tensor, Tensor]] = []
        self._device = self.r.device

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[nn.Module]:
        """Scale the sites inside the block: by row 0, and inside `given` by the rows of the examples.

        Raises:
            SiteError: the network lacks a site, or scales act on it already.
        """
        net = bare(model)
        self._device = next((weight.device for weight in net.parameters()), self.r.device)
        with attached_scales(net, tuple(map(_by_example, self.sites)), self._multiply):
            yield model

    @contextmanager
    def given(self, rows: Tensor) -> Iterator[None]:
        """Let the network compute with these rows inside the block; the backward pass may come later.

        Args:
            rows: (B,) int64, one for each example of the minibatch.
        """
        touched, place = torch.unique(rows.to(self.r.device), return_inverse=True)
        r_UD = self.r[touched].to(self._device).requires_grad_(torch.is_grad_enabled())
        if r_UD.requires_grad:
            self._touched.append((touched, r_UD))
        self._minibatch = _Minibatch(self._factors(r_UD), place.to(self._device))
        try:
            yield
        finally:
            self._minibatch = None

    def take_gradients(self) -> RowGradients | None:
        """Sums of the derivatives by all rows touched since the last call; None where there are none."""
        touched = [(rows, r_UD.grad.to(self.r.device)) for rows, r_UD in self._touched if r_UD.grad is not None]
        self._touched.clear()
        if len(touched) < 2:
            return RowGradients(*touched[0]) if touched else None
        rows, place = torch.unique(torch.cat([rows for rows, _ in touched]), return_inverse=True)
        sums_UD = self.r.new_zeros(len(rows), self.r.shape[1])
        return RowGradients(rows, sums_UD.index_add_(0, place, torch.cat([gradients for _, gradients in touched])))

    def adapter(self, row: int = SPEAKER_INDEPENDENT) -> LhucAdapter:
        """A copy of one row's parameters, on the processor."""
        layouts = {site.name: site.layout for site in self.sites}
        r = {name: r_1H[0] for name, r_1H in self._by_site(self.r[row : row + 1].cpu()).items()}
        return LhucAdapter(r, self.kind, layouts, {site.name for site in self.sites if site.shared})

    def _factors(self, r_UD: Tensor) -> dict[str, Tensor]:
        return self._by_site(amplitude(r_UD, self.kind))

    def _by_site(self, values_UD: Tensor) -> dict[str, Tensor]:
        """Site name -> (U, H) or (U, C, F)."""
        parts = torch.split(values_UD, self._widths, dim=1)
        return {site.name: part.unflatten(1, site.units) for site, part in zip(self.sites, parts, strict=True)}  # type: ignore[no-untyped-call]

    def _multiply(self, site: Site, output: Tensor, utterance_of_row: Tensor | None) -> Tensor:
        minibatch = self._minibatch or self._independent()
        factors = minibatch.factors[site.name]
        if len(factors) == 1 and utterance_of_row is None:
            return site.layout.scale(output, factors[0])
        if len(factors) == 1:
            return output * factors[0].to(output.dtype)
        factors_B = _of_examples(factors, minibatch.place, output.dtype)
        if utterance_of_row is not None:
            return scale_ragged(site, output, factors_B, utterance_of_row)
        return site.layout.scale_rows(output, factors_B)

    def _independent(self) -> _Minibatch:
        r_1D = self.r[:1].to(self._device)
        return _Minibatch(self._factors(r_1D), torch.zeros(1, dtype=torch.int64, device=self._device))


def _of_examples(factors: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, H) or (B, C, F) factors of the examples, in the precision in which they will be used."""
    gathered_BH: Tensor = _Gather.apply(factors.flatten(1), place, dtype)  # type: ignore[no-untyped-call]
    return gathered_BH.view(-1, *factors.shape[1:])


class _Gather(torch.autograd.Function):
    """Rows by number, in another precision; derivatives by a row that many examples have are summed in its own."""

    @staticmethod
    def forward(context: Any, factors_UH: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, H)."""
        context.save_for_backward(place)
        context.num_rows, context.dtype = len(factors_UH), factors_UH.dtype
        return factors_UH.to(dtype).index_select(0, place)

    @staticmethod
    def backward(context: Any, gradients_BH: Tensor) -> tuple[Tensor, None, None]:
        """(U, H)."""
        (place,) = context.saved_tensors
        gradients_BH = gradients_BH.to(context.dtype)
        sums_UH = gradients_BH.new_zeros(context.num_rows, gradients_BH.shape[1])
        return sums_UH.index_add_(0, place, gradients_BH), None, None


def _by_example(site: Site) -> Site:
    letters = site.layout.letters
    return replace(site, layout=Layout(f"B{letters[1:]}")) if letters[0] == "*" else site
