"""Weights into a network that must fit them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lhuc_asr.errors import ModelError


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Put weights into a network that must have exactly these names and shapes.

    Args:
        network: receives the weights.
        weights: name -> tensor, as in its ``state_dict``.
        source: where they come from, for the message.

    Raises:
        ModelError: a name or a shape differs; the text names the first ones.
    """
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in sorted(expected.keys() & weights.keys()) if expected[name].shape != weights[name].shape]
    if wrong:
        raise ModelError(
            f"the weights in '{source}' do not fit the network: {', '.join(map(repr, wrong[:3]))}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''} missing, unknown or of another shape"
        )
    network.load_state_dict(dict(weights))
