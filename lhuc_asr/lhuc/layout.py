"""Where the hidden units lie in a layer's output, and the products of outputs with factors that follow from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lhuc_asr.errors import SiteError

_GRAMMAR = re.compile(r"(\*|N|T*B)?T*H(T*H)?T*")


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions of a layer's output, a letter each.

    ``B`` utterances; ``N`` rows of all utterances, one utterance after the other; ``H`` hidden units, every one with
    its own scale (two of them, as in ``BHHT``: one scale per channel and band); ``T`` whatever shares scales (time,
    bands). ``*`` in front stands for any dimensions in which utterances are not told apart.

    Example:
        >>> Layout("BHTT").scale(torch.ones(1, 2, 3, 4), torch.tensor([2.0, 3.0]))[0, :, 0, 0]
        tensor([2., 3.])
    """

    letters: str = "*H"
    _ends_with_units: bool = field(init=False, repr=False, compare=False)
    """Whether the units are the last dimension and no other; it spares work at every call of a layer."""

    def __post_init__(self) -> None:
        if not _GRAMMAR.fullmatch(self.letters):
            raise SiteError(
                f"{self.letters!r} is no layout: write B (utterances) or N (rows of all utterances), T (shared) and "
                "one or two H (units), B or N before H, such as 'BTH', 'TBH', 'BHT', 'BHTT', 'BHHT', 'NH'"
            )
        object.__setattr__(self, "_ends_with_units", self.letters.index("H") == len(self.letters) - 1)

    @property
    def num_unit_dims(self) -> int:
        """1, or 2 where every channel has a scale for every band."""
        return self.letters.count("H")

    @property
    def tells_utterances_apart(self) -> bool:
        """Whether one output may carry the scales of several speakers."""
        return "B" in self.letters or "N" in self.letters

    def units(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the unit dimensions of an output of this shape; () when it has too few dimensions."""
        dims = self._unit_dims()
        return tuple(shape[dim] for dim in dims) if -dims[0] <= len(shape) else ()

    def has_units(self, shape: Sequence[int], units: tuple[int, ...]) -> bool:
        """Whether an output of this shape has just these units."""
        if self._ends_with_units and len(units) == 1:
            return len(shape) > 0 and shape[-1] == units[0]
        return self.units(shape) == units

    def scale(self, output: Tensor, factors: Tensor, *, in_place: bool = False) -> Tensor:
        """Multiply every unit of an output by its factor.

        Args:
            output: laid out as this says; dimensions in front may be absent.
            factors: (H,) or (C, F), the same for all utterances.
            in_place: overwrite the output.

        Returns:
            The shape and precision of ``output``.
        """
        if factors.dtype != output.dtype:
            factors = factors.to(output.dtype)
        if not self._ends_with_units or factors.ndim != 1:
            factors = factors.reshape(self._spread(factors.shape))
        return output.mul_(factors) if in_place else output * factors

    def shift(self, output: Tensor, biases: Tensor) -> Tensor:
        """Add to every unit of an output its own number; shapes as for `scale`."""
        return output + biases.to(output.dtype).reshape(self._spread(biases.shape))

    def scale_rows(
        self, output: Tensor, factors: Tensor, num_rows: Sequence[int] | None = None, *, in_place: bool = False
    ) -> Tensor:
        """Multiply every utterance by its own factors.

        Args:
            output: laid out as this says, of B utterances.
            factors: (B, H) or (B, C, F), those of every utterance.
            num_rows: where rows of all utterances lie one after the other, how many each has; None means all alike.
            in_place: overwrite the output.

        Returns:
            The shape and precision of ``output``.

        Raises:
            SiteError: the output cannot be divided among B utterances.
        """
        factors = factors.to(output.dtype)
        if not self.tells_utterances_apart and len(factors) == 1:
            return self.scale(output, factors[0], in_place=in_place)
        self._require_told_apart(output, len(factors))
        if "N" in self.letters:
            shape = self._spread(factors.shape[1:], after="N")
            return _scale_consecutive(output, factors.reshape(-1, *shape), num_rows, in_place)
        return _product(output, factors.reshape(-1, *self._spread(factors.shape[1:], after="B")), in_place)

    def scale_frames(self, output: Tensor, factors: Tensor) -> Tensor:
        """Multiply every frame of every utterance by its own factors.

        Args:
            output: laid out as this says, of B utterances and T frames, or of N = B * T rows.
            factors: (B, T, H) or (B, T, C, F); with T 1, those of a whole utterance.

        Returns:
            The shape and precision of ``output``.

        Raises:
            SiteError: the layout does not tell which dimension is time, or the output has other frames.
        """
        if factors.shape[1] == 1:
            return self.scale_rows(output, factors.squeeze(1))
        self._require_frames(output, factors)
        if "N" in self.letters:
            return output * factors.to(output.dtype).reshape(-1, *self._spread(factors.shape[2:], after="N"))
        units = iter(range(2, factors.ndim))
        order = [next(units) if letter == "H" else "BT".index(letter) for letter in self.letters]
        return output * factors.to(output.dtype).permute(order)

    def _unit_dims(self) -> tuple[int, ...]:
        return tuple(place - len(self.letters) for place, letter in enumerate(self.letters) if letter == "H")

    def _spread(self, units: Sequence[int], *, after: str = "") -> list[int]:
        """The shape in which factors meet the output, from the first unit on, or from behind a letter on."""
        first = self.letters.index(after) + 1 if after else self.letters.index("H")
        sizes = iter(units)
        return [next(sizes) if letter == "H" else 1 for letter in self.letters[first:]]

    def _require_told_apart(self, output: Tensor, num_utterances: int) -> None:
        if not self.tells_utterances_apart:
            raise SiteError(
                f"layout {self.letters!r} does not tell the {num_utterances} utterances of the batch apart: "
                "give find_sites an example, or a layout with B or N"
            )
        is_known = output.ndim == len(self.letters)
        if not is_known or ("B" in self.letters and output.shape[self.letters.index("B")] != num_utterances):
            raise SiteError(
                f"{num_utterances} speakers were named, one for each utterance, but an output of shape "
                f"{tuple(output.shape)} laid out as {self.letters!r} has not that many utterances"
            )

    def _require_frames(self, output: Tensor, factors: Tensor) -> None:
        if "N" not in self.letters and (self.letters.count("B"), self.letters.count("T")) != (1, 1):
            raise SiteError(
                f"layout {self.letters!r} does not tell which dimension is time, so frames cannot have scales "
                "of their own; give find_sites an example, or a layout with N, or with B and one T"
            )
        asked = tuple(factors.shape[:2])
        sizes = dict(zip(self.letters, output.shape, strict=False))
        fits = sizes["N"] == asked[0] * asked[1] if "N" in sizes else asked == (sizes.get("B"), sizes.get("T"))
        if output.ndim != len(self.letters) or not fits:
            raise SiteError(
                f"scales for {asked[0]} utterances of {asked[1]} frames were given, but an output laid out as "
                f"{self.letters!r} has shape {tuple(output.shape)}"
            )


def _product(output: Tensor, factors: Tensor, in_place: bool) -> Tensor:
    return output.mul_(factors) if in_place else output * factors


def _scale_consecutive(output: Tensor, factors: Tensor, num_rows: Sequence[int] | None, in_place: bool) -> Tensor:
    """Rows of all utterances one after the other: (N, ...) times (B, ...)."""
    num_utterances = len(factors)
    if num_rows is not None and (len(num_rows) != num_utterances or sum(num_rows) != len(output)):
        raise SiteError(
            f"{len(num_rows)} utterances of {sum(num_rows)} rows in all were announced for {num_utterances} speakers, "
            f"the layer gives {len(output)} rows"
        )
    if num_rows is not None:
        of_rows = factors.repeat_interleave(torch.tensor(num_rows, device=factors.device), dim=0)
        return _product(output, of_rows, in_place)
    if len(output) % num_utterances:
        raise SiteError(
            f"{len(output)} rows cannot be divided evenly among {num_utterances} utterances: say how many rows each has"
        )
    by_utterance = output.unflatten(0, (num_utterances, -1))  # type: ignore[no-untyped-call]
    return _product(by_utterance, factors.unsqueeze(1), in_place).flatten(0, 1)
