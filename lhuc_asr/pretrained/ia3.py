"""(IA)^3 adapters of PEFT in and out, where they scale what a site scales; PEFT itself is not needed.

(IA)^3 multiplies the inputs of some linear layers (``feedforward_modules``) and the outputs of others. An output is a
site on that layer. An input is a site on the module that gives it, if the layer alone reads it. All other places are
refused by name.

Source: Liu et al. 2022 (arXiv:2205.05638), section 3.3, and the files that PEFT's ``save_pretrained`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lhuc_asr.errors import ProfileError, SiteError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.hooks import bare, layer_of
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.pretrained.reading import Reading, prove_same, readings
from lhuc_asr.tensors import load_tensors, save_tensors

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_BEFORE, _AFTER = "base_model.model.", ".ia3_l"


def import_ia3(model: nn.Module, path: Path, *, example: Any = None) -> LhucAdapter:
    """The adapter that does on a plain model what an (IA)^3 adapter does in PEFT.

    Args:
        model: the base model, without PEFT around it.
        path: folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        example: input of the model, as for ``find_sites``. Needed for scaled inputs in models without natural sites;
            where it is given, every such place is proved to be the same.

    Returns:
        An adapter of kind ``identity``.

    Raises:
        ProfileError: the folder holds no (IA)^3 adapter, a damaged one, or one of another model.
        SiteError: some of its places are no sites of this model; the text names them all.
    """
    net = bare(model)
    config = _read_config(path)
    scaled = _places(net, load_tensors(path / _TENSORS, error=ProfileError), config, path)
    places = _Places(net, readings(net, example), example)
    refused: list[str] = []
    r: dict[str, Tensor] = {}
    layouts: dict[str, Layout] = {}
    for place in scaled:
        try:
            site = places.site_of(place)
            if site.name in r:
                raise SiteError(f"{place.name!r}: another of its modules scales the site {site.name!r} as well")
        except SiteError as error:
            refused.append(str(error))
            continue
        r[site.name], layouts[site.name] = place.factors.float(), site.layout
    if refused:
        raise SiteError(f"(IA)^3 in {str(path)!r} scales what no site of this model scales: {'; '.join(refused)}")
    return LhucAdapter(r, Amplitude.identity, layouts)


def export_ia3(
    model: nn.Module, adapter: LhucAdapter, path: Path, *, example: Any = None, base_model: str | None = None
) -> None:
    """Write an adapter such that ``PeftModel.from_pretrained`` loads it and does the same.

    Args:
        model: the base model.
        adapter: of any amplitude; its factors are written.
        path: folder for ``adapter_config.json`` and ``adapter_model.safetensors``.
        example: as for `import_ia3`.
        base_model: name or path of the base model, for PEFT's ``base_model_name_or_path``.

    Raises:
        SiteError: some sites are no places of (IA)^3; the text names them all.
    """
    net = bare(model)
    places = _Places(net, readings(net, example), example)
    scales, refused = adapter.scales(), []
    found: dict[str, _Place] = {}
    for site in adapter.sites:
        try:
            place = places.place_of(site, scales[site.name])
            if place.name in found:
                raise SiteError(f"{site.name!r}: another site scales the module {place.name!r} as well")
            found[place.name] = place
        except SiteError as error:
            refused.append(str(error))
    if refused:
        raise SiteError(f"(IA)^3 of PEFT has no such places: {'; '.join(refused)}")
    path.mkdir(parents=True, exist_ok=True)
    tensors = {f"{_BEFORE}{name}{_AFTER}": place.tensor(net) for name, place in found.items()}
    save_tensors(tensors, path / _TENSORS)
    write_json(path / _CONFIG, _config(found.values(), base_model))


@dataclass(frozen=True)
class _Place:
    """One module of (IA)^3: whether its input or its output is scaled, and by which (H,) factors."""

    name: str
    is_input: bool
    factors: Tensor

    def tensor(self, net: nn.Module) -> Tensor:
        """In the shape in which PEFT keeps it."""
        if isinstance(net.get_submodule(self.name), nn.Conv2d):
            return self.factors.reshape(1, -1, 1, 1).cpu()
        return self.factors.reshape((1, -1) if self.is_input else (-1, 1)).cpu()


@dataclass(frozen=True)
class _Places:
    """What the sites of a net are called in (IA)^3, and the other way round."""

    net: nn.Module
    readings: tuple[Reading, ...]
    example: Any

    def site_of(self, place: _Place) -> Site:
        if not place.is_input:
            return find_sites(self.net, place.name)[0]
        return self._proved(next((one for one in self.readings if one.reader == place.name), None), place.name).site

    def place_of(self, site: Site, factors: Tensor) -> _Place:
        if len(site.units) != 1:
            raise SiteError(f"{site.name!r}: it has a scale for every channel and band, (IA)^3 one for a channel")
        if isinstance(layer_of(self.net, site.name), (nn.Linear, nn.Conv2d)):
            return _Place(site.name, False, factors)
        reading = next((one for one in self.readings if one.site.name == site.name), None)
        return _Place(self._proved(reading, site.name).reader, True, factors)

    def _proved(self, reading: Reading | None, name: str) -> Reading:
        if reading is None:
            hint = "" if self.example is not None else " (an example might show more)"
            raise SiteError(f"{name!r}: no module is known whose output one linear layer alone reads{hint}")
        if self.example is not None:
            prove_same(self.net, reading, self.example)
        return reading


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = read_json(path / _CONFIG)
    except (OSError, ValueError) as error:
        raise ProfileError(f"cannot read '{path / _CONFIG}': {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "IA3":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise ProfileError(f"'{path / _CONFIG}' is of kind {kind!r}; only IA3 adapters scale units")
    return config


def _places(net: nn.Module, tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: Path) -> list[_Place]:
    """What the file scales, in the order in which the net has it."""
    order = {name: place for place, (name, _) in enumerate(net.named_modules())}
    found = []
    for key, tensor in tensors.items():
        name = key.removeprefix(_BEFORE).removesuffix(_AFTER)
        if not (key.startswith(_BEFORE) and key.endswith(_AFTER)):
            raise ProfileError(f"{str(path)!r} holds {key!r}, which is no vector of (IA)^3 but weights of its own")
        if name not in order:
            raise ProfileError(f"{str(path)!r} belongs to another model: this one has no module {name!r}")
        found.append(_checked(net, _Place(name, _is_feedforward(name, config), tensor.flatten()), tensor, path))
    return sorted(found, key=lambda place: order[place.name])


def _checked(net: nn.Module, place: _Place, tensor: Tensor, path: Path) -> _Place:
    module = net.get_submodule(place.name)
    if isinstance(module, nn.Linear):
        num_units = module.in_features if place.is_input else module.out_features
    elif isinstance(module, nn.Conv2d):
        num_units = module.in_channels if place.is_input else module.out_channels
    else:
        raise ProfileError(f"{str(path)!r} scales {place.name!r}, here a {type(module).__name__}, no linear layer")
    if tensor.numel() != num_units or tensor.shape != place.tensor(net).shape:
        raise ProfileError(
            f"{str(path)!r} belongs to another model: it has factors of shape {tuple(tensor.shape)} for "
            f"{place.name!r}, whose {'input' if place.is_input else 'output'} has {num_units} units here"
        )
    return place


def _is_feedforward(name: str, config: Mapping[str, Any]) -> bool:
    """The way in which PEFT decides it: a string is a regular expression, a list holds ends of names."""
    wanted = config.get("feedforward_modules") or []
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name.endswith(end) for end in wanted)


def _config(places: Iterable[_Place], base_model: str | None) -> dict[str, Any]:
    """Names as regular expressions, because PEFT takes those in lists for ends of names."""
    places = list(places)
    return {
        "peft_type": "IA3",
        "base_model_name_or_path": base_model,
        "task_type": None,
        "inference_mode": True,
        "target_modules": "|".join(re.escape(place.name) for place in places),
        "feedforward_modules": "|".join(re.escape(place.name) for place in places if place.is_input),
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_ia3_weights": True,
    }
