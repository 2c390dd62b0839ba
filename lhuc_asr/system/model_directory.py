"""One directory that holds a whole recogniser: network, priors, HMM, words, graph and settings, each file checked.

model.json              what the directory holds, SHA-256 of every file, fingerprint of the model
network.safetensors     weights (network.*) and log-priors of the tied states (log_prior)
hmm.json                topology, phonetic decision tree, transition probabilities
lexicon.txt             pronunciations
lm.arpa                 language model
HCLG.fst                decoding graph
projection.safetensors  what LDA and MLLT make of the features, where the network learnt from such
fmllr/                  mixtures that estimate speakers' transforms, where the network learnt from transformed features
decoding.json           decoding settings, the only file that may change later
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.files import sha256
from lhuc_asr.hmm.graphs.graph import write_graph
from lhuc_asr.hmm.speaker_adaptive import SpeakerAdaptiveGmm
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.arpa import ArpaModel, write_arpa
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.models.kinds import NETWORKS, NetworkKind, build_network
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.streaming import log_probs_of
from lhuc_asr.models.weights import load_weights
from lhuc_asr.system.settings import REMEDY, canonical, from_plain, read_sealed, to_plain, write_sealed
from lhuc_asr.tensors import digest, load_tensors, save_tensors
from lhuc_asr.units import Milliseconds

FORMAT = "lhuc_asr acoustic system"
VERSION = 1

_MODEL, _NETWORK, _HMM, _LEXICON = "model.json", "network.safetensors", "hmm.json", "lexicon.txt"
_LM, _GRAPH, _DECODING = "lm.arpa", "HCLG.fst", "decoding.json"
_CHECKED = (_NETWORK, _HMM, _LEXICON, _LM, _GRAPH)
_PROJECTION, _FMLLR = "projection.safetensors", "fmllr"


@dataclass(frozen=True)
class SystemParts:
    """What training hands over to be written as a model directory.

    Attributes:
        network: the trained network.
        log_prior: (V,) natural logarithms of the tied states' priors.
        features: how waveforms become features.
        hmm: states and transitions.
        lexicon: pronunciations.
        lm: language model of the graph.
        graph: HCLG, a ``kaldifst.StdVectorFst``.
        decoding: settings of the search.
        projection: of the features, where the network learnt from projected ones.
        speaker_gmm: estimates speakers' transforms, where the network learnt from transformed features.
    """

    network: AcousticNetwork
    log_prior: Tensor
    features: FeatureConfig
    hmm: HmmModel
    lexicon: Lexicon
    lm: ArpaModel
    graph: Any
    decoding: DecodingConfig
    projection: FrameProjection | None = None
    speaker_gmm: SpeakerAdaptiveGmm | None = None


@dataclass(frozen=True)
class AcousticSystem:
    """A recogniser as loaded from its directory; nothing in it changes.

    Attributes:
        directory: where it lies.
        network: in evaluation mode, no weight asks for a gradient.
        log_prior: (V,) natural logarithms of the tied states' priors.
        features: how waveforms become features.
        hmm: states and transitions.
        lexicon: pronunciations.
        decoding: settings of the search.
        fingerprint: the same for equal weights, priors, feature settings and HMM, and projection and mixtures where
            there are any; profiles and transforms belong to one fingerprint.
        projection: of the features, after normalisation; None where the network learnt from features as they are.
        wants_transforms: the network learnt from features that were transformed for each speaker.
    """

    directory: Path
    network: AcousticNetwork
    log_prior: Tensor
    features: FeatureConfig
    hmm: HmmModel
    lexicon: Lexicon
    decoding: DecodingConfig
    fingerprint: str
    projection: FrameProjection | None = None
    wants_transforms: bool = False

    @property
    def graph_path(self) -> Path:
        """The decoding graph."""
        return self.directory / _GRAPH

    @property
    def lm_path(self) -> Path:
        """The language model, in ARPA format."""
        return self.directory / _LM

    def speaker_gmm(self) -> SpeakerAdaptiveGmm:
        """What estimates speakers' transforms.

        Raises:
            ModelError: the network learnt without such transforms.
        """
        if not self.wants_transforms:
            raise ModelError(
                f"the model '{self.directory}' was trained without speakers' transforms; a model "
                " that has them is trained with fmllr=sat"
            )
        return SpeakerAdaptiveGmm.load(self.directory / _FMLLR)

    def require_plain_frames(self, what: str) -> None:
        """Refuse a model that does not learn from frames in any order, of features as they are.

        Args:
            what: shall be learnt for it, for the message: "a gate".

        Raises:
            ConfigError: the network learnt from projected or transformed features, or learns from whole utterances.
        """
        if self.projection is not None or self.wants_transforms:
            kind = "transformed features (fmllr)" if self.wants_transforms else "projected features (lda)"
            raise ConfigError(
                f"{what} is learnt for models of features as they are; the model '{self.directory}' was trained on "
                f"{kind}"
            )
        if not self.network.learns_from_frames:
            raise ConfigError(
                f"{what} is learnt from frames; a network of kind {self.network.config.kind.name} learns from whole "
                "utterances. Possible: dnn, cnn, maxout, maxout_cnn"
            )

    @property
    def output_shift_ms(self) -> Milliseconds:
        """Milliseconds from one output of the network to the next."""
        return self.features.frame_shift_ms * self.network.subsampling

    def log_likes(self, feats: NDArray[np.float32], *, at_once: bool = False) -> NDArray[np.float32]:
        """Scaled log-likelihoods of one utterance: log-posteriors less log-priors.

        Args:
            feats: (T, F) features, normalised, projected and transformed as in training.
            at_once: never in parts, however long; for scales that differ from frame to frame.

        Returns:
            (T', V) natural logarithms, up to a constant of each frame; T' = T / subsampling, rounded up.
        """
        with torch.inference_mode():
            feats_BTF = torch.from_numpy(np.ascontiguousarray(feats, dtype=np.float32))[None]
            log_probs_BTV = self.network(feats_BTF) if at_once else log_probs_of(self.network, feats_BTF)
            log_likes: NDArray[np.float32] = (log_probs_BTV[0] - self.log_prior).numpy()
        return log_likes

    def searching_with(self, decoding: DecodingConfig) -> AcousticSystem:
        """The same recogniser with other decoding settings, for this process alone."""
        return replace(self, decoding=decoding)

    def with_decoding(self, decoding: DecodingConfig) -> AcousticSystem:
        """The same recogniser with other decoding settings, also on disk; the fingerprint stays."""
        _write_decoding(self.directory, decoding)
        return load_system(self.directory)


def write_system(directory: Path, parts: SystemParts) -> AcousticSystem:
    """Write a model directory; a broken-off write leaves one that loading refuses.

    Raises:
        ModelError: network, priors and HMM do not have the same number of tied states.
    """
    _check_sizes(parts)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MODEL).unlink(missing_ok=True)
    weights = {f"network.{name}": tensor for name, tensor in parts.network.state_dict().items()}
    save_tensors({**weights, "log_prior": parts.log_prior}, directory / _NETWORK)
    parts.hmm.save(directory / _HMM)
    parts.lexicon.write(directory / _LEXICON)
    write_arpa(parts.lm, directory / _LM)
    write_graph(parts.graph, directory / _GRAPH)
    _write_decoding(directory, parts.decoding)
    content = _describe(parts.network, parts.features)
    names = [*_CHECKED, *_write_projection(directory, parts), *_write_speaker_gmm(directory, parts)]
    content["files"] = {name: sha256(directory / name) for name in names}
    content["fingerprint"] = _fingerprint(directory, content)
    write_sealed(directory / _MODEL, content)
    return load_system(directory)


def load_system(directory: Path) -> AcousticSystem:
    """Load a model directory.

    Raises:
        ModelError: a file is missing, altered or of a newer format; the text names it.
    """
    if not directory.is_dir():
        raise ModelError(f"there is no model directory '{directory}'")
    content = read_sealed(directory / _MODEL, version=VERSION)
    if content.get("format") != FORMAT:
        raise ModelError(f"'{directory / _MODEL}' describes {content.get('format')!r}, not an {FORMAT!r}")
    _check_files(directory, content["files"])
    tensors = load_tensors(directory / _NETWORK)
    decoding = read_sealed(directory / _DECODING, version=VERSION)["settings"]
    hmm = HmmModel.load(directory / _HMM)
    silence, unknown_phone, *_ = hmm.phones
    return AcousticSystem(
        directory=directory,
        network=_build_network(content["network"], tensors, source=str(directory / _NETWORK)),
        log_prior=tensors["log_prior"],
        features=from_plain(FeatureConfig, content["features"], source=str(directory / _MODEL)),
        hmm=hmm,
        lexicon=Lexicon.read(directory / _LEXICON, strip_stress=False, silence=silence, unknown_phone=unknown_phone),
        decoding=from_plain(DecodingConfig, decoding, source=str(directory / _DECODING)),
        fingerprint=content["fingerprint"],
        projection=FrameProjection.load(directory / _PROJECTION) if _PROJECTION in content["files"] else None,
        wants_transforms=_has_transforms(content),
    )


def _check_sizes(parts: SystemParts) -> None:
    sizes = (parts.network.num_outputs, len(parts.log_prior), parts.hmm.num_pdfs)
    if len(set(sizes)) > 1:
        raise ModelError(
            "the network has {} outputs, there are {} priors, and the HMM has {} tied states".format(*sizes)
        )
    given, giver = parts.features.dim, "feature settings give"
    if parts.projection is not None:
        _require_dim("projection", parts.projection.feat_dim, given, giver)
        given, giver = parts.projection.dim, "projection gives"
    _require_dim("network", parts.network.feat_dim, given, giver)


def _require_dim(taker: str, taken: int, given: int, giver: str) -> None:
    if taken != given:
        raise ModelError(f"the {taker} takes {taken} features a frame, the {giver} {given}")


def _describe(network: AcousticNetwork, features: FeatureConfig) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "network": _describe_network(network),
        "features": to_plain(features),
    }


def _describe_network(network: AcousticNetwork) -> dict[str, Any]:
    """Enough to build the network again; fingerprints depend on it, so what it says of a network must not change."""
    settings = to_plain(network.config)
    kind = settings.pop("kind")
    sizes = {"feat_dim": network.feat_dim, "num_outputs": network.num_outputs}
    return {"kind": kind, **sizes, "settings": settings}


def _fingerprint(directory: Path, content: dict[str, Any]) -> str:
    settings = canonical({"network": content["network"], "features": content["features"]})
    total = hashlib.sha256(settings.encode())
    total.update(digest(load_tensors(directory / _NETWORK)).encode())
    total.update(content["files"][_HMM].encode())
    for name in content["files"]:
        if name == _PROJECTION or name.startswith(f"{_FMLLR}/"):
            total.update(content["files"][name].encode())
    return total.hexdigest()


def _write_projection(directory: Path, parts: SystemParts) -> list[str]:
    """The name of the file, if there is one; what an earlier model left is taken away."""
    path = directory / _PROJECTION
    path.unlink(missing_ok=True)
    if parts.projection is None:
        return []
    parts.projection.save(path)
    return [path.name]


def _write_speaker_gmm(directory: Path, parts: SystemParts) -> list[str]:
    """Names of the files, in a fixed order; what an earlier model left is taken away."""
    target = directory / _FMLLR
    shutil.rmtree(target, ignore_errors=True)
    if parts.speaker_gmm is None:
        return []
    parts.speaker_gmm.save(target)
    return sorted(f"{_FMLLR}/{path.name}" for path in target.iterdir())


def _has_transforms(content: dict[str, Any]) -> bool:
    return any(name.startswith(f"{_FMLLR}/") for name in content["files"])


def _write_decoding(directory: Path, decoding: DecodingConfig) -> None:
    write_sealed(directory / _DECODING, {"version": VERSION, "settings": to_plain(decoding)})


def _check_files(directory: Path, expected: dict[str, str]) -> None:
    for name in (*_CHECKED, *expected, _DECODING):
        if not (directory / name).is_file():
            raise ModelError(f"the model directory '{directory}' has no '{name}'; {REMEDY}")
    for name in {*_CHECKED, *expected}:
        if sha256(directory / name) != expected.get(name):
            raise ModelError(
                f"'{directory / name}' was altered after it was written; restore it or train the model again"
            )


def _build_network(description: dict[str, Any], tensors: dict[str, Tensor], *, source: str) -> AcousticNetwork:
    known = [kind.name for kind in NETWORKS]
    if description["kind"] not in known:
        raise ModelError(
            f"'{source}' holds a network of kind {description['kind']!r}; this lhuc_asr knows: {', '.join(known)}"
        )
    config_class = NETWORKS[NetworkKind[description["kind"]]].config
    config = from_plain(config_class, description["settings"], source=source)
    network = build_network(config, description["feat_dim"], description["num_outputs"])
    weights = {name[len("network.") :]: tensor for name, tensor in tensors.items() if name.startswith("network.")}
    load_weights(network, weights, source=source)
    return network.requires_grad_(False).eval()
