"""Every utterance of a batch scaled by its own factors: attached for all that do so, however utterances lie in a layer.


Shape suffixes: B utterances, T frames, N rows of all utterances one after the other, H hidden units (or C, F).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.hooks import attached_scales, bare
from lhuc_asr.lhuc.probe import proved_at_first_use
from lhuc_asr.lhuc.sites import Site


@contextmanager
def attached_to_utterances(
    model: nn.Module,
    sites: tuple[Site, ...],
    multiply: Callable[..., Tensor],
    require_batch: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None],
    *,
    prove: bool,
) -> Iterator[nn.Module]:
    """Scale a net's sites inside the block, each utterance by factors of its own.

    Args:
        model: the net, also inside `DistributedDataParallel` or `torch.compile`, which compiles it anew.
        sites: what is scaled.
        multiply: site and output -> scaled output; with ``in_place=True`` it may change what it is given.
        require_batch: looks at the inputs of the net where a site's rows must be told apart by utterance.
        prove: shake every site at the net's first call and demand that the output moves.

    Raises:
        SiteError: the net lacks a site, something is attached to it already, or a site does not act.
    """
    net = bare(model)
    with ExitStack() as stack:
        stack.enter_context(attached_scales(net, sites, multiply, partial(multiply, in_place=True)))
        stack.enter_context(proved_at_first_use(net, sites, when=prove))
        if any("N" in site.layout.letters for site in sites):
            stack.callback(net.register_forward_pre_hook(require_batch, with_kwargs=True).remove)
        yield model


def owners(num_rows: Sequence[int] | None, device: torch.device) -> Tensor | None:
    """(N,) to which utterance each row belongs, given how many rows every utterance has."""
    if num_rows is None:
        return None
    return torch.arange(len(num_rows)).repeat_interleave(torch.tensor(num_rows)).to(device)


def scale_utterances(
    site: Site, output: Tensor, factors: Tensor, utterance_of_row: Tensor | None, *, in_place: bool = False
) -> Tensor:
    """An output, every utterance scaled by its own factors.

    Args:
        site: whose output it is.
        output: laid out as the site says.
        factors: (B, H) or (B, C, F).
        utterance_of_row: (N,) to which utterance each row belongs, where rows of all utterances lie one after the other
            and utterances differ in length.
        in_place: overwrite the output.

    Raises:
        SiteError: the output cannot be divided among the utterances.
    """
    if utterance_of_row is not None and "N" in site.layout.letters:
        if len(output) != len(utterance_of_row):
            raise SiteError(
                f"{len(factors)} utterances of {len(utterance_of_row)} rows in all were announced, "
                f"{site.name!r} gives {len(output)}"
            )
        factors = factors.index_select(0, utterance_of_row)
    return site.layout.scale_rows(output, factors, in_place=in_place)


def scale_ragged(site: Site, output: Tensor, factors: Tensor, utterance_of_row: Tensor) -> Tensor:
    """The rows (N, H) of a packed sequence or nested tensor, each scaled by the factors (B, H) of its utterance."""
    num_utterances = int(utterance_of_row.max()) + 1 if len(utterance_of_row) else len(factors)
    if num_utterances != len(factors):
        raise SiteError(
            f"{len(factors)} speakers were named, one for each utterance, but {site.name!r} gives sequences of "
            f"{num_utterances} utterances"
        )
    if len(factors) > 1 and not site.layout.tells_utterances_apart:
        raise SiteError(
            f"{site.name!r} gives sequences whose order in the batch is not proved (layout "
            f"{site.layout.letters!r}): give find_sites an example of at least two utterances, or layout='NH'"
        )
    return output * factors.index_select(0, utterance_of_row).to(output.dtype)


def require_batch(num_utterances: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], block: str) -> None:
    """Where utterances lie one after the other, any number of speakers might divide them: look at the input too."""
    inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    if inputs and not any(num_utterances in value.shape[:2] for value in inputs):
        raise SiteError(
            f"{num_utterances} speakers were named, one for each utterance, but the net is called with "
            f"{', '.join(str(tuple(value.shape)) for value in inputs)}; where utterances lie one after the other "
            f"already there, give {block}"
        )
