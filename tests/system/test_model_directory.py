"""A model directory is whole and unaltered, or it is refused by the name of the file at fault."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np
import pytest
import torch

from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.features.cmvn import CmvnMode
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.files import read_json, sha256, write_json
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.models import streaming
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.models.kinds import NETWORKS, NetworkKind, build_network
from lhuc_asr.system.model_directory import AcousticSystem, SystemParts, load_system, write_system
from lhuc_asr.system.settings import write_sealed
from lhuc_asr.tensors import digest, load_tensors

FILES = ("model.json", "network.safetensors", "hmm.json", "lexicon.txt", "lm.arpa", "HCLG.fst", "decoding.json")


SHAPES: dict[NetworkKind, dict[str, Any]] = {
    NetworkKind.dnn: {"num_layers": 1, "hidden_dim": 4},
    NetworkKind.cnn: {"num_layers": 1, "hidden_dim": 4, "num_filters": 3},
    NetworkKind.maxout: {"num_layers": 1, "hidden_dim": 4},
    NetworkKind.maxout_cnn: {"num_layers": 1, "hidden_dim": 4, "num_filters": 3},
    NetworkKind.tdnn: {"hidden_dim": 4, "dilations": [1, 3], "subsampling": 3},
    NetworkKind.tdnnf: {"hidden_dim": 4, "bottleneck_dim": 2, "dilations": [1, 2], "subsampling": 2},
    NetworkKind.blstm: {"num_layers": 1, "hidden_dim": 4},
    NetworkKind.conformer: {"num_layers": 1, "stream_dim": 4, "hidden_dim": 5, "num_heads": 2, "subsampling": 4},
}


def small_parts() -> SystemParts:
    lexicon = Lexicon({"YES": (("Y", "EH", "S"),), "NO": (("N", "OW"), ("N", "AH"))})
    hmm = HmmModel.monophone(lexicon.phones)
    graph = kaldifst.StdVectorFst()
    graph.start = graph.add_state()
    graph.set_final(graph.start, 0.0)
    log_prior = torch.log_softmax(torch.randn(hmm.num_pdfs, generator=torch.Generator().manual_seed(0)), 0)
    return SystemParts(
        network=Dnn(DnnConfig(num_layers=2, hidden_dim=4, dropout=0.3, batch_norm=True), 40, hmm.num_pdfs),
        log_prior=log_prior,
        features=FeatureConfig(),
        hmm=hmm,
        lexicon=lexicon,
        lm=estimate_ngram([["YES"], ["NO", "NO"]], order=2, vocabulary=lexicon.words),
        graph=graph,
        decoding=DecodingConfig(acoustic_scale=0.07),
    )


def parts_with(kind: NetworkKind) -> SystemParts:
    parts = small_parts()
    config = NETWORKS[kind].config(kind=kind, **SHAPES[kind])
    return replace(parts, network=build_network(config, parts.features.dim, parts.hmm.num_pdfs, seed=2).eval())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("system")
    write_system(directory, small_parts())
    return directory


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def rewritten(directory: Path, parts: SystemParts) -> AcousticSystem:
    return write_system(directory, parts)


def test_what_was_written_comes_back(written: Path) -> None:
    parts, system = small_parts(), load_system(written)
    assert all(
        torch.equal(system.network.state_dict()[name], value) for name, value in parts.network.state_dict().items()
    )
    assert torch.equal(system.log_prior, parts.log_prior)
    assert (system.features, system.decoding) == (parts.features, parts.decoding)
    assert system.lexicon.pronunciations == parts.lexicon.pronunciations
    assert system.lexicon.phones == parts.lexicon.phones == system.hmm.phones
    assert system.hmm.num_pdfs == parts.hmm.num_pdfs
    assert sorted(path.name for path in written.iterdir()) == sorted(FILES)
    assert system.graph_path.is_file()
    assert system.lm_path.is_file()


def test_a_loaded_network_is_frozen_and_evaluates(written: Path) -> None:
    network = load_system(written).network
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_log_likes_are_posteriors_less_priors(written: Path) -> None:
    system = load_system(written)
    feats = np.random.default_rng(0).normal(size=(7, 40)).astype(np.float32)
    log_likes = system.log_likes(feats)
    assert (log_likes.shape, log_likes.dtype) == ((7, system.hmm.num_pdfs), np.float32)
    posteriors = np.exp(log_likes + system.log_prior.numpy())
    np.testing.assert_allclose(posteriors.sum(axis=1), 1, rtol=1e-5)


def test_long_speech_is_computed_in_parts(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = load_system(written)
    feats = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    sizes: list[int] = []
    system.network.output.register_forward_hook(lambda _, inputs, output: sizes.append(len(output)))  # type: ignore
    whole = system.log_likes(feats)
    monkeypatch.setattr(streaming, "LONGEST", 20)
    np.testing.assert_allclose(system.log_likes(feats), whole, rtol=1e-4, atol=1e-5)
    assert np.array_equal(system.log_likes(feats, at_once=True), whole)
    assert sizes == [50, 15, 20, 10, 5, 50]


@pytest.mark.parametrize("kind", NetworkKind)
def test_networks_of_every_kind_come_back(tmp_path: Path, kind: NetworkKind) -> None:
    parts = parts_with(kind)
    system = write_system(tmp_path / "a", parts)
    assert system.network.config == parts.network.config
    assert not any(parameter.requires_grad for parameter in system.network.parameters())
    assert system.output_shift_ms == 10.0 * SHAPES[kind].get("subsampling", 1)
    for num_frames in (7, 1):
        feats = np.random.default_rng(0).normal(size=(num_frames, 40)).astype(np.float32)
        expected = parts.network(torch.from_numpy(feats)[None])[0].detach() - parts.log_prior
        log_likes = system.log_likes(feats)
        np.testing.assert_array_equal(log_likes, expected)
        assert len(log_likes) == -(-num_frames // system.network.subsampling)
    assert write_system(tmp_path / "b", parts_with(kind)).fingerprint == system.fingerprint


def test_what_learns_from_plain_frames_refuses_other_models(written: Path) -> None:
    system = load_system(written)
    found = {}
    for kind in NetworkKind:
        other = replace(system, network=parts_with(kind).network)
        try:
            other.require_plain_frames("a gate")
        except ConfigError as error:
            found[kind] = str(error)
    possible = ", ".join(kind.name for kind in NetworkKind if kind not in found)
    for kind, told in found.items():
        assert told == (
            f"a gate is learnt from frames; a network of kind {kind.name} learns from whole utterances. "
            f"Possible: {possible}"
        )
    with pytest.raises(ConfigError, match=r"learnt for models of features as they are; the model '.*' was trained on"):
        replace(system, wants_transforms=True).require_plain_frames("a gate")


def test_kinds_settings_and_weights_make_fingerprints(tmp_path: Path) -> None:
    prints = {write_system(tmp_path / kind.name, parts_with(kind)).fingerprint for kind in NetworkKind}
    assert len(prints) == len(NetworkKind)


def test_directories_of_the_first_version_load_with_their_fingerprint(copy: Path) -> None:
    """What a DNN's directory said before there were other kinds, and how its fingerprint was made of it."""
    settings = {
        "num_layers": 2,
        "hidden_dim": 4,
        "context": 5,
        "activation": "sigmoid",
        "dropout": 0.3,
        "batch_norm": True,
    }
    content = read_json(copy / "model.json")
    num_outputs = len(load_system(copy).log_prior)
    content["network"] = {"kind": "dnn", "feat_dim": 40, "num_outputs": num_outputs, "settings": settings}
    described = {"network": content["network"], "features": content["features"]}
    total = hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    total.update(digest(load_tensors(copy / "network.safetensors")).encode())
    total.update(sha256(copy / "hmm.json").encode())
    (copy / "model.json").unlink()
    del content["sha256"]
    write_sealed(copy / "model.json", {**content, "fingerprint": total.hexdigest()})
    old, new = load_system(copy), write_system(copy / "new", small_parts())
    assert old.fingerprint == new.fingerprint == content["fingerprint"]
    assert old.network.config == new.network.config == small_parts().network.config


def test_a_kind_that_is_not_known_is_refused(copy: Path) -> None:
    content = read_json(copy / "model.json")
    content["network"]["kind"] = "resnet"
    del content["sha256"]
    write_sealed(copy / "model.json", content)
    with pytest.raises(ModelError, match="of kind 'resnet'; this lhuc_asr knows: dnn, cnn, "):
        load_system(copy)


def test_a_directory_may_be_moved(copy: Path, written: Path) -> None:
    assert load_system(copy).fingerprint == load_system(written).fingerprint


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"has no '{name}'"):
        load_system(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["altered", "truncated", "empty"])
def test_an_altered_file_is_named(copy: Path, name: str, damage: str) -> None:
    content = (copy / name).read_bytes()
    middle = content.find(b"0.07") if name == "decoding.json" else len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    (copy / name).write_bytes({"altered": flipped, "truncated": content[:-20], "empty": b""}[damage])
    with pytest.raises(ModelError, match=name):
        load_system(copy)


def test_one_line_without_a_traceback_of_our_own(copy: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_system(copy / "nowhere")
    assert str(caught.value) == f"there is no model directory '{copy / 'nowhere'}'"


@pytest.mark.parametrize("name", ["model.json", "decoding.json"])
def test_a_newer_format_is_refused(copy: Path, name: str) -> None:
    write_json(copy / name, {**read_json(copy / name), "version": 2})
    with pytest.raises(ModelError, match=rf"{name}' has format version 2; update lhuc_asr"):
        load_system(copy)


def test_the_fingerprint_knows_the_model_and_not_the_search(tmp_path: Path) -> None:
    parts = small_parts()
    system = rewritten(tmp_path / "same", parts)
    seen = [system.fingerprint]
    other_weights = Dnn(parts.network.config, 40, parts.hmm.num_pdfs, seed=1)
    for number, change in enumerate(
        [
            {"network": other_weights},
            {"log_prior": parts.log_prior + 0.01},
            {"features": FeatureConfig(cmvn=CmvnMode.utterance)},
            {"hmm": HmmModel.monophone(parts.lexicon.phones, loop_probability=0.5)},
        ]
    ):
        seen.append(rewritten(tmp_path / str(number), replace(parts, **change)).fingerprint)
    assert len(set(seen)) == 5
    assert rewritten(tmp_path / "again", small_parts()).fingerprint == seen[0]
    unlike = replace(parts, decoding=DecodingConfig(beam=5.0), lm=estimate_ngram([["NO"]], order=1))
    assert rewritten(tmp_path / "search", unlike).fingerprint == seen[0]


def test_decoding_settings_may_change(copy: Path) -> None:
    before = load_system(copy)
    after = before.with_decoding(DecodingConfig(acoustic_scale=0.2, insertion_penalty=-1.5))
    assert load_system(copy).decoding == after.decoding == DecodingConfig(acoustic_scale=0.2, insertion_penalty=-1.5)
    assert after.fingerprint == before.fingerprint


def projection(dim: int, feat_dim: int, *, seed: int = 0) -> FrameProjection:
    """Of three frames."""
    return FrameProjection(np.random.default_rng(seed).normal(size=(dim, 3 * feat_dim + 1)), context=1)


def test_a_projection_is_part_of_the_model(tmp_path: Path) -> None:
    plain = rewritten(tmp_path / "plain", small_parts())
    one, same, other = (
        rewritten(tmp_path / name, replace(small_parts(), projection=projection(40, 40, seed=seed)))
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one.fingerprint == same.fingerprint
    assert len({plain.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert plain.projection is None and one.projection is not None
    np.testing.assert_array_equal(one.projection.matrix, projection(40, 40).matrix)
    again = write_system(tmp_path / "one", small_parts())
    assert again.projection is None and not (tmp_path / "one" / "projection.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"log_prior": torch.zeros(3)}, "3 priors"),
        ({"features": FeatureConfig(delta_order=1)}, "takes 40 features a frame, the feature settings give 80"),
        ({"projection": projection(40, 39)}, "the projection takes 39 features a frame, the feature settings give 40"),
        ({"projection": projection(12, 40)}, "the network takes 40 features a frame, the projection gives 12"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, object], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        write_system(tmp_path, replace(small_parts(), **change))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_broken_off_write_leaves_a_directory_that_is_refused(copy: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_system(copy, small_parts())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(copy.glob(".*")), "no half file remains"
    with pytest.raises(ModelError, match=r"has no 'model\.json'"):
        load_system(copy)
