"""Many speakers at once: their parameters are rows of tables, and every utterance of a batch is given its own row."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lhuc_asr.errors import SiteError, SpeakerError, nearest
from lhuc_asr.lhuc.adapter import LhucAdapter, like_parameters
from lhuc_asr.lhuc.amplitude import Amplitude, amplitude, identity_parameters
from lhuc_asr.lhuc.hooks import attached_scales, bare, refuse_attached
from lhuc_asr.lhuc.probe import proved_at_first_use
from lhuc_asr.lhuc.sites import Site

_SPEAKER_INDEPENDENT = 0


class SpeakerScales(Protocol):
    """What a bank takes in; `lhuc_asr.profiles.format.Profile` is one."""

    @property
    def speaker(self) -> str:
        """Any id."""

    def adapter(self) -> LhucAdapter:
        """The speaker's parameters."""


@dataclass(frozen=True)
class _Selection:
    """Whose utterances a thread is just computing."""

    rows: Tensor
    num_rows: tuple[int, ...] | None


class SpeakerBank(nn.Module):
    """Tables of parameters, a row for every speaker and row 0 for the speaker-independent net.

    Utterances are given their speakers per thread, inside ``with bank.speakers([...])``; there is no global active
    speaker. A speaker who is put in again gets a fresh row, and a row is used anew only when no batch reads it any
    longer, so that a batch under way never sees half of a change.

    Args:
        sites: what is scaled; utterances must be told apart (``B`` or ``N`` in the layouts) for batches of several.
        kind: how parameters become factors.
        like: device and precision of the tables.
        capacity: rows for speakers; the tables grow when they are full. A compiled net is compiled anew only then.

    Attributes:
        tables: for each site (rows, H) or (rows, C, F) parameters; not trained unless `requires_grad_` is called.

    Example:
        >>> from lhuc_asr.lhuc.finding import find_sites
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2))
        >>> x = torch.ones(2, 4, 3)
        >>> bank = SpeakerBank.identity(net, find_sites(net, "1", example=x), ["anna", "ben"])
        >>> with bank.attached(net), bank.speakers(["ben", None]):
        ...     net(x).shape
        torch.Size([2, 4, 2])
    """

    def __init__(
        self,
        sites: Sequence[Site],
        kind: Amplitude = Amplitude.exp,
        like: Tensor | None = None,
        *,
        capacity: int = 16,
    ) -> None:
        super().__init__()
        self.sites, self.kind = tuple(sites), kind
        start = identity_parameters((), kind, torch.empty(0) if like is None else like)
        self.tables = nn.ParameterList(start.repeat(1 + capacity, *site.units) for site in self.sites)
        self.requires_grad_(False)
        self._place = {site.name: place for place, site in enumerate(self.sites)}
        self._row_of: dict[str, int] = {}
        self._free = list(range(capacity, 0, -1))
        self._readers: Counter[int] = Counter()
        self._left: set[int] = set()
        self._lock = threading.RLock()
        self._local = threading.local()

    @classmethod
    def identity(
        cls,
        model: nn.Module,
        sites: Sequence[Site],
        speakers: Iterable[str],
        amplitude: Amplitude | str = Amplitude.exp,
    ) -> SpeakerBank:
        """A bank whose speakers all begin with the speaker-independent net."""
        names = list(dict.fromkeys(speakers))
        bank = cls(sites, Amplitude(amplitude), like_parameters(bare(model)), capacity=max(1, len(names)))
        start = LhucAdapter.identity(model, sites, amplitude)
        for name in names:
            bank.put(name, start)
        return bank

    @classmethod
    def from_profiles(
        cls, model: nn.Module, profiles: Iterable[SpeakerScales], *, sites: Sequence[Site] | None = None
    ) -> SpeakerBank:
        """A bank of stored speakers.

        Args:
            model: the net that they belong to; it says on which device the tables lie.
            profiles: all of one amplitude and the same sites.
            sites: the same sites with layouts that tell utterances apart, where the profiles' own do not.

        Raises:
            SiteError: there is no profile, or they differ in amplitude or sites.
        """
        adapters = {profile.speaker: profile.adapter() for profile in profiles}
        if not adapters:
            raise SiteError(
                "a bank needs at least one profile to know its sites; SpeakerBank(sites) makes an empty one"
            )
        first = next(iter(adapters.values()))
        chosen = first.sites if sites is None else tuple(sites)
        bank = cls(chosen, first.kind, like_parameters(bare(model)), capacity=len(adapters))
        for name, adapter in adapters.items():
            bank.put(name, adapter)
        return bank

    def __contains__(self, speaker: object) -> bool:
        return speaker in self._row_of

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def known(self) -> tuple[str, ...]:
        """The speakers, in the order in which they came."""
        return tuple(self._row_of)

    def put(self, speaker: str, adapter: LhucAdapter) -> None:
        """Take a speaker in, or give a known one other parameters; batches under way keep the old ones.

        Raises:
            SiteError: the adapter has another amplitude or other sites than the bank.
        """
        self._require_same(speaker, adapter)
        with self._lock, torch.no_grad():
            if not self._free:
                self._grow()
            row = self._free.pop()
            for site, table in zip(self.sites, self.tables, strict=True):
                table[row].copy_(adapter.r[site.name])
            self._leave(self._row_of.get(speaker))
            self._row_of[speaker] = row

    def evict(self, speaker: str) -> None:
        """Forget a speaker; the others are not touched.

        Raises:
            SpeakerError: the speaker is not in the bank.
        """
        with self._lock:
            row = self._known_row(speaker)
            del self._row_of[speaker]
            self._leave(row)

    def adapter(self, speaker: str | None) -> LhucAdapter:
        """A copy of one speaker's parameters; None means row 0."""
        row = _SPEAKER_INDEPENDENT if speaker is None else self._known_row(speaker)
        r = {site.name: table[row] for site, table in zip(self.sites, self.tables, strict=True)}
        return LhucAdapter(r, self.kind, {site.name: site.layout for site in self.sites})

    @contextmanager
    def attached(self, model: nn.Module, *, prove: bool = True) -> Iterator[nn.Module]:
        """Scale the net's sites inside the block by the rows of the speakers that each thread names.

        Args:
            model: the net; compile it inside the block, not before.
            prove: shake every site at the net's first call and demand that the output moves.

        Raises:
            SiteError: the net lacks a site, something is attached to it already, a site does not act, or the net is
                called in a thread that has named no speakers.
        """
        net = bare(model)
        refuse_attached(net)
        with attached_scales(net, self.sites, self._multiply), proved_at_first_use(net, self.sites, when=prove):
            yield model

    @contextmanager
    def speakers(self, ids: Sequence[str | None], *, num_rows: Sequence[int] | None = None) -> Iterator[None]:
        """Say who speaks in the batches that this thread computes inside the block.

        Args:
            ids: one for each utterance of the batch; None is the speaker-independent net.
            num_rows: where utterances lie one after the other (layout ``N``) and differ in length, the rows of each.

        Raises:
            SpeakerError: a speaker is not in the bank.
        """
        with self._lock:
            rows = [_SPEAKER_INDEPENDENT if name is None else self._known_row(name) for name in ids]
            self._readers.update(rows)
        before = getattr(self._local, "selection", None)
        index = torch.tensor(rows, device=self.tables[0].device)
        self._local.selection = _Selection(index, None if num_rows is None else tuple(num_rows))
        try:
            yield
        finally:
            self._local.selection = before
            with self._lock:
                self._readers.subtract(rows)
                for row in set(rows) & self._left:
                    self._recycle(row)

    def _multiply(self, site: Site, output: Tensor, packed: PackedSequence | None) -> Tensor:
        selection: _Selection | None = getattr(self._local, "selection", None)
        if selection is None:
            raise SiteError(
                "a bank is attached, but this thread has named no speakers: use `with bank.speakers([...])`"
            )
        rows = self.tables[self._place[site.name]].index_select(0, selection.rows)
        factors = amplitude(rows, self.kind)
        if packed is not None:
            return output * factors.to(output.dtype).index_select(0, _utterance_of_rows(packed))
        return site.layout.scale_rows(output, factors, selection.num_rows)

    def _known_row(self, speaker: str) -> int:
        if speaker not in self._row_of:
            raise SpeakerError(
                f"speaker {speaker!r} is not among the {len(self._row_of)} of the bank; "
                f"the nearest: {nearest(speaker, list(self._row_of))}"
            )
        return self._row_of[speaker]

    def _require_same(self, speaker: str, adapter: LhucAdapter) -> None:
        asked = {site.name: site.units for site in adapter.sites}
        if adapter.kind is not self.kind or asked != {site.name: site.units for site in self.sites}:
            raise SiteError(
                f"speaker {speaker!r} has {adapter.kind.name} scales for {_sizes(asked)}, the bank has "
                f"{self.kind.name} scales for {_sizes({site.name: site.units for site in self.sites})}"
            )

    def _leave(self, row: int | None) -> None:
        if row is not None:
            self._left.add(row)
            self._recycle(row)

    def _recycle(self, row: int) -> None:
        """Give a row that was left free again as soon as nobody reads it."""
        if self._readers[row] == 0:
            self._left.discard(row)
            self._free.append(row)

    def _grow(self) -> None:
        """Twice as many rows; batches under way go on reading the old tables."""
        for place, table in enumerate(self.tables):
            grown = torch.cat(
                [table.detach(), table.detach()[_SPEAKER_INDEPENDENT].expand(len(table), *table.shape[1:])]
            )
            self.tables[place] = nn.Parameter(grown, requires_grad=table.requires_grad)
        num_rows = len(self.tables[0])
        self._free = list(range(num_rows - 1, num_rows // 2 - 1, -1))


def _utterance_of_rows(packed: PackedSequence) -> Tensor:
    """(N,) for every row of a packed sequence the utterance, in the order of the batch before it was sorted."""
    device = packed.data.device
    places = torch.cat([torch.arange(size) for size in packed.batch_sizes.tolist()]).to(device)
    return places if packed.sorted_indices is None else packed.sorted_indices.index_select(0, places)


def _sizes(units: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name!r} ({'x'.join(map(str, size))})" for name, size in units.items())
