"""An exported net gives the folded net's numbers for any batch and length, and its page says whose it is."""

import hashlib
import json

import pytest
import torch
from torch import nn

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import ConfigError, DependencyError, FoldError, SiteError
from lhuc_asr.lhuc import exporters
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.export import ExportFormat, export_model, export_speaker
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.tensors import load_tensors

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated")
CONFIG = DnnConfig(num_layers=2, hidden_dim=8, context=2, batch_norm=True, dropout=0.1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Dnn(CONFIG, feat_dim=4, num_outputs=5)
    net(torch.randn(2, 9, 4))
    return net


@pytest.fixture
def profile(net):
    sites = find_sites(net, net.adaptation_sites)
    adapter = LhucAdapter({site.name: torch.randn(site.units) for site in sites})
    return Profile.from_adapter(adapter, speaker="../0024", base_fingerprint=fingerprint(net))


def adapted(net, profile, *args):
    net.eval()
    with torch.no_grad(), profile.adapter().attached(net):
        return net(*args)


def onnx_outputs(path, *tensors):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return names, session.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})


def test_onnx_gives_the_adapted_nets_numbers_for_other_batches_and_lengths(net, profile, tmp_path):
    pytest.importorskip("onnxscript")
    exported = export_speaker(net, profile, tmp_path / "a.onnx", (torch.randn(2, 9, 4), torch.tensor([9, 6])))
    feats, lens = torch.randn(3, 14, 4), torch.tensor([14, 1, 8])
    names, (found,) = onnx_outputs(exported.path, feats, lens)
    torch.testing.assert_close(torch.from_numpy(found), adapted(net, profile, feats, lens), rtol=1e-5, atol=1e-5)
    assert names == ["feats_BTF", "feat_lens"] and exported.dynamic == ("batch", "time")


def test_torchscript(net, profile, tmp_path):
    exported = export_speaker(net, profile, tmp_path / "a.pt", torch.randn(1, 9, 4), format="torchscript")
    feats = torch.randn(3, 14, 4)
    with torch.no_grad():
        found = torch.jit.load(exported.path)(feats)
    torch.testing.assert_close(found, adapted(net, profile, feats), rtol=1e-5, atol=1e-5)


def test_torch_export(net, profile, tmp_path):
    exported = export_speaker(net, profile, tmp_path / "a.pt2", torch.randn(1, 9, 4), format="torch_export")
    feats = torch.randn(3, 14, 4)
    with torch.no_grad():
        found = torch.export.load(exported.path).module()(feats)
    torch.testing.assert_close(found, adapted(net, profile, feats), rtol=1e-5, atol=1e-5)


def test_weights_load_into_a_net_built_anew(net, profile, tmp_path):
    exported = export_speaker(net, profile, tmp_path / "a.safetensors", torch.randn(1, 9, 4), format="state_dict")
    fresh = Dnn(CONFIG, feat_dim=4, num_outputs=5, seed=7).eval()
    fresh.load_state_dict(load_tensors(exported.path))
    feats = torch.randn(3, 14, 4)
    torch.testing.assert_close(fresh(feats), adapted(net, profile, feats), rtol=1e-5, atol=1e-5)


def test_the_page_says_whose_net_it_is(net, profile, tmp_path):
    before = fingerprint(net)
    exported = export_speaker(net, profile, tmp_path / "a.safetensors", torch.randn(2, 9, 4), format="state_dict")
    page = json.loads(exported.page.read_text())
    assert exported.page == tmp_path / "a.safetensors.json"
    assert (page["speaker"], page["base_fingerprint"], page["profile_sha256"]) == ("../0024", before, profile.sha256)
    assert page["sha256"] == hashlib.sha256(exported.path.read_bytes()).hexdigest()
    assert page["sites"]["layers.1.activation"] == {
        "shape": [8],
        "layout": "*H",
        "folded": "into 'output' input columns",
    }
    assert page["inputs"] == [{"name": "feats_BTF", "shape": ["batch", "time", 4], "dtype": "float32"}]
    assert page["max_difference"] == exported.max_difference <= 1e-5
    assert fingerprint(net) == before and net.training
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "a.safetensors.json"]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.output = nn.LSTM(4, 5, batch_first=True, bidirectional=True), nn.Linear(10, 3)

    def forward(self, feats):
        return self.output(self.lstm(feats)[0])


def test_lstm_to_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    net = Recurrent()
    exported = export_model(net, tmp_path / "a.onnx", torch.randn(2, 7, 4))
    feats = torch.randn(3, 17, 4)
    _, (found,) = onnx_outputs(exported.path, feats)
    torch.testing.assert_close(torch.from_numpy(found), net(feats), rtol=1e-5, atol=1e-5)


def test_conformer_keeps_its_masks_in_torchscript(tmp_path):
    torch.manual_seed(0)
    net = import_torchaudio("models").Conformer(16, 2, 24, 1, 3).eval()
    example = (torch.randn(2, 12, 16), torch.tensor([12, 9]))
    exported = export_model(net, tmp_path / "a.pt", example, format=ExportFormat.torchscript)
    feats, lens = torch.randn(3, 21, 16), torch.tensor([4, 21, 20])
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(exported.path)(feats, lens), net(feats, lens))


def test_windows_are_fixed_and_their_number_is_not(net, tmp_path):
    example = Example((torch.randn(4, 5, 4),), call=lambda model, windows: model.forward_windows(windows))
    exported = export_model(net, tmp_path / "a.pt", example, format="torchscript")
    assert exported.dynamic == ("batch",)
    windows = torch.randn(9, 5, 4)
    torch.testing.assert_close(torch.jit.load(exported.path)(windows), net.eval().forward_windows(windows))


def test_frames_may_be_the_last_dimension(tmp_path):
    net = nn.Sequential(nn.Conv1d(4, 6, 3), nn.ReLU(), nn.Conv1d(6, 3, 1))
    exported = export_model(net, tmp_path / "a.pt", torch.randn(2, 4, 20), format="torchscript")
    assert json.loads(exported.page.read_text())["inputs"][0]["shape"] == ["batch", 4, "time"]


class BoundToItsLength(nn.Module):
    """A trace keeps the number of frames that it has seen."""

    def forward(self, feats):
        return feats / len(feats[0].tolist())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("torchscript", r"torchscript file with a longer time axis differ by \d"),
        ("torch_export", "with a longer time axis, though the net does; it is bound to the example's sizes"),
    ],
)
def test_a_file_bound_to_the_length_of_the_example_is_refused(kind, reason, tmp_path):
    with pytest.raises(FoldError, match=reason):
        export_model(BoundToItsLength(), tmp_path / "a.pt", torch.randn(2, 7, 4), format=kind)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(net, profile, tmp_path, monkeypatch):
    example = torch.randn(2, 9, 4)
    with pytest.raises(ConfigError, match="there is no export format 'tflite'; there are state_dict, torchscript"):
        export_model(net, tmp_path / "a", example, format="tflite")
    with profile.adapter().attached(net), pytest.raises(SiteError, match="an adapter is attached"):
        export_model(net, tmp_path / "a", example)
    with pytest.raises(FoldError, match="tensors in lists, tuples or mappings"):
        export_model(net, tmp_path / "a", (example, [torch.ones(2)]))
    monkeypatch.setattr(exporters, "_import", lambda name: None if name == "onnxruntime" else torch)
    with pytest.raises(DependencyError, match=r"onnxruntime cannot be imported: pip install 'lhuc_asr\[export\]'"):
        export_model(net, tmp_path / "a", example)
    assert list(tmp_path.iterdir()) == []
