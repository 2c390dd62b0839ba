"""Numbers other than scales: zeros change nothing, derivatives are right, the network stays, speakers come back."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.toy_session import data, session
from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.objectives.utterances import utterances_of
from lhuc_asr.adaptation.parameters.config import ParameterConfig, Parameters
from lhuc_asr.adaptation.parameters.own import OwnParameters
from lhuc_asr.adaptation.parameters.sets import InputTransform, WeightSet, parameter_set, prove_numbers_act
from lhuc_asr.adaptation.parameters.stored import StoredParameters, load_parameters, save_parameters
from lhuc_asr.adaptation.passes.protocol import Protocol, ProtocolConfig
from lhuc_asr.adaptation.results import SpeakerResult
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.sweeps import adapt, adapt_group
from lhuc_asr.errors import ConfigError, ProfileError, SiteError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.models.blstm import Blstm, BlstmConfig
from lhuc_asr.models.conformer import Conformer
from lhuc_asr.models.conformer_config import ConformerConfig
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.sites import proved_sites

RNG = np.random.default_rng(3)
OTHERS = [kind for kind in Parameters if kind is not Parameters.lhuc]
NETWORKS = {
    "dnn": lambda: Dnn(DnnConfig(num_layers=2, hidden_dim=5, context=1, batch_norm=True), feat_dim=4, num_outputs=6),
    "tdnnf": lambda: TdnnF(TdnnFConfig(dilations=[1, 1, 0], hidden_dim=8, bottleneck_dim=4), feat_dim=4, num_outputs=6),
    "blstm": lambda: Blstm(BlstmConfig(num_layers=1, hidden_dim=3), feat_dim=4, num_outputs=6),
    "conformer": lambda: Conformer(
        ConformerConfig(num_layers=1, stream_dim=8, hidden_dim=8, num_heads=2), feat_dim=4, num_outputs=6
    ),
}


def network_of(name):
    return NETWORKS[name]().requires_grad_(False).eval()


def set_of(network, kind, **settings):
    config = ParameterConfig(parameters=kind, **settings)
    return parameter_set(config, network, proved_sites(network, ()))


def fingerprint(network):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())).hexdigest()


def frames_of(network, num_frames=40):
    feats = [RNG.normal(size=(num_frames, network.feat_dim)).astype(np.float32)]
    targets = torch.from_numpy(RNG.integers(network.num_outputs, size=num_frames))
    return SplicedFrames(feats, network.context), targets


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", OTHERS)
def test_zeros_are_the_network_itself_every_number_acts_and_no_trace_is_left(name, kind):
    network = network_of(name)
    feats, lens = torch.randn(2, 24, 4), torch.tensor([24, 17])
    alone, before, modules = network(feats, lens), fingerprint(network), dict(network.named_parameters())
    try:
        own = set_of(network, kind)
    except ConfigError as error:
        assert kind in (Parameters.norm, Parameters.lin_spliced) and "possible" in str(error)
        return
    adapter = OwnParameters.zeros(network, own)
    with adapter.attached(network):
        assert torch.equal(network(feats, lens), alone)
    prove_numbers_act(network, own)
    for values in adapter.r.values():
        values.data.normal_(std=0.1)
    with adapter.attached(network):
        assert not torch.allclose(network(feats, lens), alone)
    assert torch.equal(network(feats, lens), alone) and fingerprint(network) == before
    assert all(parameter is modules[found] for found, parameter in network.named_parameters())
    assert "forward_windows" not in vars(network) and not network._forward_pre_hooks


@pytest.mark.parametrize("kind", OTHERS)
def test_an_exception_inside_leaves_no_trace(kind):
    network = network_of("dnn")
    before = {name: id(parameter) for name, parameter in network.named_parameters()}
    with pytest.raises(KeyError), OwnParameters.zeros(network, set_of(network, kind)).attached(network):
        raise KeyError
    assert {name: id(parameter) for name, parameter in network.named_parameters()} == before
    assert "forward_windows" not in vars(network)


@pytest.mark.parametrize("kind", OTHERS)
def test_one_step_follows_finite_differences(kind):
    sites = proved_sites(network_of("dnn"), ())
    network = network_of("dnn").double()
    own = parameter_set(ParameterConfig(parameters=kind, rank=2), network, sites)
    frames, targets = frames_of(network)
    windows = frames.windows(torch.arange(40)).double()
    adapter = OwnParameters.zeros(network, own)

    def loss(r):
        with OwnParameters(own, r).attached(network):
            return torch.nn.functional.nll_loss(network.forward_windows(windows), targets).item()

    expected = {}
    for name, values in adapter.r.items():
        place, step = tuple(int(RNG.integers(size)) for size in values.shape), 1e-5
        losses = []
        for sign in (1, -1):
            moved = {other: value.detach().clone() for other, value in adapter.r.items()}
            moved[name][place] += sign * step
            losses.append(loss(moved))
        expected[name, place] = -(losses[0] - losses[1]) / (2 * step)
    own_frames = SpeakerFrames(DoubleFrames(frames), targets)
    adapt_group(network, [adapter], [own_frames], AdaptConfig(lr=1.0, num_epochs=1, batch_size=100, parameters=kind))
    for (name, place), value in expected.items():
        assert adapter.r[name][place].item() == pytest.approx(value, abs=1e-7)


class DoubleFrames:
    """The frames of a speaker, with more digits."""

    def __init__(self, frames):
        self.frames, self.num_frames, self.offsets = frames, frames.num_frames, frames.offsets

    def windows(self, numbers):
        return self.frames.windows(numbers).double()


def test_all_is_what_an_optimiser_makes_of_the_weights():
    network, copy = network_of("dnn"), network_of("dnn")
    frames, targets = frames_of(network)
    own = OwnParameters.zeros(network, set_of(network, Parameters.all))
    adapt(network, own, frames, targets, AdaptConfig(lr=0.1, num_epochs=3, batch_size=100, parameters=Parameters.all))
    optimiser = torch.optim.SGD(copy.requires_grad_(True).parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        windows = frames.windows(torch.arange(40))
        torch.nn.functional.nll_loss(copy.forward_windows(windows), targets).backward()
        optimiser.step()
    for name, weight in copy.named_parameters():
        torch.testing.assert_close(network.get_parameter(name) + own.r[name], weight, atol=1e-6, rtol=1e-5)


def test_output_is_learnt_from_what_the_layer_below_gives():
    """The part below is computed once; the outcome is that of logistic regression on it."""
    network = network_of("dnn")
    frames, targets = frames_of(network)
    h = network.output_of("layers.1.activation", frames.windows(torch.arange(40)))
    weight, bias = network.output.weight.clone().requires_grad_(), network.output.bias.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(h @ weight.T + bias, targets)
    by_weight, by_bias = torch.autograd.grad(loss, [weight, bias])
    own = OwnParameters.zeros(network, set_of(network, Parameters.output))
    adapt(network, own, frames, targets, AdaptConfig(lr=0.5, num_epochs=1, batch_size=100))
    torch.testing.assert_close(own.r["output.weight"].data, -0.5 * by_weight)
    torch.testing.assert_close(own.r["output.bias"].data, -0.5 * by_bias)


def test_ia3_scales_inputs_and_lora_has_its_rank():
    network = network_of("dnn")
    x = torch.randn(7, 5)
    ia3 = OwnParameters.zeros(network, set_of(network, Parameters.ia3))
    ia3.r["output.weight"].data.copy_(torch.arange(5.0))
    expected = torch.nn.functional.linear(x * torch.arange(1.0, 6.0), network.output.weight, network.output.bias)
    with ia3.attached(network):
        torch.testing.assert_close(network.output(x), expected)
    lora = OwnParameters.zeros(network, set_of(network, Parameters.lora, rank=2))
    lora.r["layers.1.linear.weight.left"].data.normal_()
    with lora.attached(network):
        added = network.layers[1].linear.weight - dict(network.named_parameters())["layers.1.linear.weight"]
        difference = network.layers[1].linear.weight.detach()
    difference = difference - network.layers[1].linear.weight
    assert torch.linalg.matrix_rank(difference) == 2 and not added.any()


def test_an_input_transform_on_frames_is_that_of_every_frame_of_the_window():
    network = network_of("dnn")
    own = OwnParameters.zeros(network, InputTransform(network))
    for values in own.r.values():
        values.data.normal_()
    feats = torch.randn(1, 9, 4)
    by_hand = feats + feats @ own.r["input.weight"].T + own.r["input.bias"]
    with own.attached(network):
        torch.testing.assert_close(network(feats), network_of("dnn")(by_hand))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_strong_prior_keeps_the_network_as_it_is(kind):
    network = network_of("dnn")
    frames, targets = frames_of(network)
    own = OwnParameters.zeros(network, set_of(network, kind))
    adapt(network, own, frames, targets, AdaptConfig(lr=0.1, prior=1e20, parameters=kind))
    assert all(values.abs().max() < 1e-6 for values in own.r.values())


@pytest.mark.parametrize("name", ["tdnnf", "blstm"])
@pytest.mark.parametrize("kind", [Parameters.bias, Parameters.lin, Parameters.lora, Parameters.all])
def test_whole_utterances_teach_as_well(name, kind):
    network = network_of(name)
    feats = {"a": RNG.normal(size=(30, 4)).astype(np.float32), "b": RNG.normal(size=(41, 4)).astype(np.float32)}
    lens = {name: int(network.output_lens(torch.tensor([len(x)]))) for name, x in feats.items()}
    targets = {name: torch.from_numpy(RNG.integers(6, size=count)) for name, count in lens.items()}
    own = OwnParameters.zeros(network, set_of(network, kind))
    before = fingerprint(network)
    (report,) = adapt_group(
        network, [own], [utterances_of(targets, feats, network)], AdaptConfig(lr=0.1, parameters=kind)
    )
    assert report.objective_after < report.objective_before and fingerprint(network) == before


def test_a_number_that_does_nothing_is_told():
    network = network_of("dnn")
    network.spare = torch.nn.Linear(2, 2)
    own = set_of(network, Parameters.all)
    assert isinstance(own, WeightSet)
    with pytest.raises(SiteError, match=r"'spare\.weight', 'spare\.bias' have no effect"):
        prove_numbers_act(network, own)


def test_kinds_say_what_they_cannot():
    plain = Dnn(DnnConfig(num_layers=1, hidden_dim=5, context=1), feat_dim=4, num_outputs=6).eval()
    with pytest.raises(ConfigError, match="no normalisation with scales and offsets"):
        set_of(plain, Parameters.norm)
    with pytest.raises(ConfigError, match="takes whole utterances; possible: lin"):
        set_of(network_of("blstm"), Parameters.lin_spliced)
    with pytest.raises(ConfigError, match="rank must be at least 1"):
        ParameterConfig(rank=0)
    with pytest.raises(ConfigError, match=r"adapt\.parameters=lora learns others"):
        AdaptConfig(parameters=Parameters.lora, subspace="x.json")


@pytest.mark.parametrize(("kind", "num_jobs"), [(Parameters.bias, 1), (Parameters.lin, 2), (Parameters.all, 1)])
def test_a_session_adapts_resumes_and_leaves_the_model(system, tmp_path, kind, num_jobs):
    manifest, feats = data(["../../x", "b"])
    before = fingerprint(system.network)
    settings = AdaptConfig(min_seconds=0.01, parameters=kind, lr=0.1)
    run = session(system, tmp_path, adapt=settings, num_jobs=num_jobs)
    results = list(run.run(manifest, feats))
    assert all(isinstance(result, SpeakerResult) and not result.resumed for result in results)
    assert all(result.update.objective_after < result.update.objective_before for result in results)
    assert fingerprint(system.network) == before
    again = list(session(system, tmp_path, adapt=settings).run(manifest, feats))
    assert all(result.resumed for result in again)
    assert {r.speaker: r.profile for r in again} == {r.speaker: r.profile for r in results}
    stored = load_parameters(results[0].profile, fingerprint="f" * 64)
    assert stored.parameters == kind.name and stored.seconds == results[0].seconds
    results[0].profile.with_suffix(".safetensors").unlink()  # it may be large, and the words are there
    assert load_parameters(results[0].profile, fingerprint="f" * 64).sha256 == stored.sha256
    assert all(result.resumed for result in session(system, tmp_path, adapt=settings).run(manifest, feats))


def test_stored_numbers_are_refused_as_profiles_and_by_other_models(system, tmp_path):
    manifest, feats = data(["a"])
    settings = AdaptConfig(min_seconds=0.01, parameters=Parameters.lin, lr=0.1)
    (result,) = session(system, tmp_path, adapt=settings).run(manifest, feats)
    with pytest.raises(ProfileError, match="not a profile: it holds 'lin' parameters"):
        load_profile(result.profile, fingerprint=None)
    with pytest.raises(ProfileError, match="was learnt for model ffff"):
        load_parameters(result.profile, fingerprint="0" * 64)
    result.profile.with_suffix(".safetensors").write_bytes(b"other")
    with pytest.raises(ProfileError, match="the tensors beside it are not those"):
        load_parameters(result.profile, fingerprint="f" * 64)
    (again,) = session(system, tmp_path, adapt=settings).run(manifest, feats)
    assert not again.resumed


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_stored_numbers_are_the_old_or_the_new_when_the_process_dies_while_they_are_written(
    tmp_path, monkeypatch, renames
):
    old, new = (
        StoredParameters("a", "f", "bias", {"1": torch.full((3,), value)}, "one_best", 1.0, 1.0, 1.0)
        for value in (1.0, 2.0)
    )
    path = save_parameters(old, tmp_path)
    whole, done = Path.replace, []

    def die(self, target):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return whole(self, target)

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(Path, "replace", die)
        patched.setattr(Path, "unlink", lambda *args, **kwargs: None)
        save_parameters(new, tmp_path)
    expected = new if renames >= 2 else old
    found = load_parameters(path, fingerprint="f")
    assert torch.equal(found.r["1"], expected.r["1"]) and found.sha256 == expected.sha256


def test_targets_of_the_model_itself_leave_every_kind_where_it_is(system, tmp_path):
    """Nearly nothing but the model's own posteriors in the targets: their gradient is zero at the start."""
    manifest, feats = data(["a"])
    moved = {}
    for kl in (0.0, 0.999):
        settings = AdaptConfig(min_seconds=0.01, parameters=Parameters.all, lr=0.1, kl=kl)
        (result,) = session(system, tmp_path / str(kl), adapt=settings).run(manifest, feats)
        stored = load_parameters(result.profile, fingerprint="f" * 64)
        moved[kl] = max(values.abs().max().item() for values in stored.r.values())
    assert moved[0.999] < 0.01 * moved[0.0]


def test_any_amount_is_scored_on_the_same_speech_after_the_same_first_pass(system, tmp_path):
    manifest, feats = data(["a", "b"], per_speaker=6)
    scored = {}
    for amount in (0.5, 1.2, 99.0, None):
        protocol = ProtocolConfig(name=Protocol.enrolment, scored=0.5, seconds=amount)
        run = session(system, tmp_path / "runs" / str(amount), protocol=protocol)
        run.first_pass_directory = tmp_path / "first_pass"
        results = list(run.run(manifest, feats))
        scored[amount] = [(len(result.plan.adaptation), result.plan.evaluation) for result in results]
        assert len(run.decoder.calls) == (12 if amount == 0.5 else 0) + 6
    assert [[count for count, _ in own] for own in scored.values()] == [[1, 1], [2, 2], [3, 3], [3, 3]]
    assert len({tuple(ids for _, ids in own) for own in scored.values()}) == 1
    with pytest.raises(ConfigError, match="scored is for protocol=enrolment"):
        ProtocolConfig(scored=0.5)
    with pytest.raises(ConfigError, match="shares of the same utterances"):
        ProtocolConfig(name=Protocol.enrolment, scored=0.5, fraction=0.2)
