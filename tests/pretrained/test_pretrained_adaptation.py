"""Unsupervised adaptation of torchaudio's and Hugging Face's models: what learns, what stays, what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lhuc_asr.errors import AudioError, ConfigError, DependencyError, ModelError, SiteError, SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.pretrained import loading
from lhuc_asr.pretrained.ctc_adaptation import CtcAdaptationConfig, CtcModel, CtcObjective, adapt_ctc
from lhuc_asr.pretrained.loading import load_hugging_face_ctc, load_torchaudio_ctc, torchaudio_ctc
from lhuc_asr.pretrained.natural_sites import default_sites
from lhuc_asr.pretrained.prefix_beam import PrefixBeamSearch
from lhuc_asr.pretrained.updating import Optimiser, UpdateConfig
from lhuc_asr.pretrained.whisper import WhisperModel, adapt_whisper

LABELS = "-|ABCDEFGHIJ"
FEW = CtcAdaptationConfig(updates=UpdateConfig(num_epochs=2, batch_size=2))
Speech = dict[str, Tensor]


@pytest.fixture
def model(torchaudio_net: Any) -> CtcModel:
    return torchaudio_ctc(torchaudio_net(), LABELS)


def identity(model: CtcModel) -> LhucAdapter:
    return LhucAdapter.identity(model.net, default_sites(model.net))


@pytest.mark.parametrize("objective", CtcObjective)
@pytest.mark.parametrize("decoder", [None, PrefixBeamSearch()])
def test_the_objective_falls(model: CtcModel, utterances: Speech, objective: CtcObjective, decoder: Any) -> None:
    adapter = identity(model)
    config = CtcAdaptationConfig(objective=objective, updates=FEW.updates)
    done = adapt_ctc(model, adapter, utterances, config, decoder=decoder)
    assert done.objective_after < done.objective_before
    assert (len(done.per_epoch), done.num_updates) == (2, 4)
    assert list(done.first_pass) == list(done.second_pass) == list(utterances)
    assert all((r != 0).any() for r in adapter.parameters())


def test_the_model_is_left_as_it_was(model: CtcModel, utterances: Speech) -> None:
    model.net.train()
    before = fingerprint(model.net)
    adapt_ctc(model, identity(model), utterances, FEW)
    assert fingerprint(model.net) == before
    assert model.net.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.net.parameters())


def test_the_same_seed_gives_the_same_scales_even_in_training_mode(model: CtcModel, utterances: Speech) -> None:
    found = []
    for training in (False, True):
        adapter = identity(model)
        model.net.train(training)
        adapt_ctc(model, adapter, utterances, FEW)
        found.append(adapter.r)
    for name, r in found[0].items():
        torch.testing.assert_close(r, found[1][name], rtol=0, atol=0)


def test_one_update_is_one_step_along_the_gradient_of_the_mean_loss(model: CtcModel, utterances: Speech) -> None:
    """Against one batch of padded log-probabilities and torch's own mean over all frames."""
    adapter, expected = identity(model), identity(model)
    updates = UpdateConfig(num_epochs=1, batch_size=len(utterances), lr=0.5, optimiser=Optimiser.sgd)
    done = adapt_ctc(model, adapter, utterances, CtcAdaptationConfig(objective=CtcObjective.frames, updates=updates))
    with expected.attached(model.net):
        log_probs = torch.cat([model.log_probs(samples) for samples in utterances.values()])
        alignment = torch.cat([target.alignment for target in done.first_pass.values()])
        torch.nn.functional.nll_loss(log_probs, alignment).backward()
    for name, r in expected.r.items():
        assert r.grad is not None
        torch.testing.assert_close(adapter.r[name], -0.5 * r.grad, rtol=1e-3, atol=1e-6)


def test_a_warm_start_decodes_with_the_scales_that_it_has(model: CtcModel, utterances: Speech) -> None:
    warm = LhucAdapter({site.name: torch.full(site.units, 1.5) for site in default_sites(model.net)})
    done = adapt_ctc(model, warm, utterances, FEW)
    cold = {name: model.recognise(samples) for name, samples in utterances.items()}
    assert any(done.first_pass[name].alignment.tolist() != cold[name].alignment.tolist() for name in utterances)


def rigged(log_probs_of: Any) -> tuple[CtcModel, LhucAdapter]:
    """A model that shouts what a function makes of its hidden units."""
    net = nn.Sequential(nn.Identity())
    adapter = LhucAdapter.identity(net, [Site("0", (2,))])
    return CtcModel(net, lambda net, speech: log_probs_of(net(speech))), adapter


def test_utterances_of_blanks_are_reported_and_not_learnt_from() -> None:
    model, adapter = rigged(lambda units: torch.stack([units[:, 0], units[:, 1]], -1))
    speech = {"says": torch.tensor([[0.0, 1.0]] * 3), "blank": torch.tensor([[1.0, 0.0]] * 3)}
    done = adapt_ctc(model, adapter, speech, FEW)
    assert done.unused == ("blank",)
    assert not done.has_collapsed
    assert done.guard() == {"passed": True, "silenced": [], "unused": ["blank"]}
    assert done.num_updates == 2


def test_nothing_but_blanks_is_refused() -> None:
    model, adapter = rigged(lambda units: units)
    with pytest.raises(SpeakerError, match="nothing was recognised in any of 2 utterances"):
        adapt_ctc(model, adapter, {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[2.0, 0.0]])})


def test_a_collapse_is_reported() -> None:
    """A long utterance teaches that the unit behind token 1 shall be small; a short one loses its only word."""
    model, adapter = rigged(lambda units: torch.stack([0.5 + 0 * units[:, 0], units[:, 0], units[:, 1]], -1))
    many = torch.tensor([[0.4, 2.0]] * 60)
    speech = {"many": many, "short": torch.tensor([[0.6, 0.0]])}
    config = CtcAdaptationConfig(objective=CtcObjective.frames, updates=UpdateConfig(num_epochs=5, lr=0.2))
    done = adapt_ctc(model, adapter, speech, config)
    assert done.silenced == ("short",)
    assert done.has_collapsed
    assert done.guard()["passed"] is False


def test_no_utterances_are_refused(model: CtcModel) -> None:
    with pytest.raises(SpeakerError, match="no utterances"):
        adapt_ctc(model, identity(model), {})


def test_a_loss_that_is_not_finite_is_told_with_the_utterance(model: CtcModel, utterances: Speech) -> None:
    config = CtcAdaptationConfig(updates=UpdateConfig(lr=1e4, num_epochs=5))
    with pytest.raises(SpeakerError, match=r"the loss of utterance 'anna-.*lower learning rate"):
        adapt_ctc(model, identity(model), utterances, config)


def test_a_site_that_does_not_act_stops_adaptation_before_it_begins(utterances: Speech) -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.out = nn.ReLU(), nn.Linear(1, 3)

        def forward(self, samples: Tensor) -> Tensor:
            self.unused(samples)
            output: Tensor = self.out(samples)
            return output

    net = Deaf()
    model = CtcModel(net, lambda net, speech: net(speech[:50, None]))
    adapter = LhucAdapter.identity(net, [Site("unused", (1,))])
    with pytest.raises(SiteError, match="changes nothing"):
        adapt_ctc(model, adapter, utterances)
    assert (adapter.r["unused"] == 0).all()


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": float("nan")}, {"num_epochs": 0}, {"batch_size": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        UpdateConfig(**wrong)


def test_hugging_face_ctc_from_a_folder(hugging_face_folder: Path, utterances: Speech) -> None:
    model = load_hugging_face_ctc(str(hugging_face_folder))
    assert (model.blank, model.sampling_rate) == (0, 16000)
    adapter = identity(model)
    done = adapt_ctc(model, adapter, utterances, FEW)
    assert done.objective_after < done.objective_before
    with adapter.attached(model.net):
        for name, samples in utterances.items():
            assert model.recognise(samples).tokens.tolist() == done.second_pass[name].tokens.tolist()


def test_hugging_face_text_is_what_its_own_processor_decodes(hugging_face_folder: Path, utterances: Speech) -> None:
    import transformers

    model = load_hugging_face_ctc(str(hugging_face_folder))
    processor = transformers.AutoProcessor.from_pretrained(hugging_face_folder)
    net = transformers.AutoModelForCTC.from_pretrained(hugging_face_folder).eval()
    for samples in utterances.values():
        inputs = processor(samples.numpy(), sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            expected = processor.batch_decode(net(**inputs).logits.argmax(-1))[0]
        assert expected
        assert model.words(model.recognise(samples)) == expected


def test_a_missing_model_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="AutoModelForCTC cannot load") as caught:
        load_hugging_face_ctc(str(tmp_path / "nowhere"))
    assert "\n" not in str(caught.value)


def test_absent_transformers_are_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loading.importlib.sys.modules, "transformers", None)  # type: ignore[attr-defined]
    with pytest.raises(DependencyError, match=r"pip install 'lhuc_asr\[pretrained\]'"):
        load_hugging_face_ctc("any")


@pytest.mark.parametrize(
    ("asked", "told"), [("WAV2VEC2_ASR_BASE_96H", "WAV2VEC2_ASR_BASE_960H"), ("HUBERT_BASE", "has no CTC labels")]
)
def test_a_bundle_that_cannot_be_used_is_told_with_others(asked: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        load_torchaudio_ctc(asked)


def test_torchaudio_text_is_words() -> None:
    model = torchaudio_ctc(nn.Identity(), LABELS)
    assert model.text([1, 2, 3, 1, 1, 4]) == "AB C"


def test_whisper_learns_from_its_own_words(whisper_folder: Path, utterances: Speech) -> None:
    model = WhisperModel.load(str(whisper_folder), language="en")
    adapter = LhucAdapter.identity(model.net, default_sites(model.net))
    before = fingerprint(model.net)
    done = adapt_whisper(model, adapter, utterances, UpdateConfig(num_epochs=2))
    assert done.objective_after < done.objective_before
    assert fingerprint(model.net) == before
    assert all((r != 0).any() for r in adapter.parameters())
    with adapter.attached(model.net):
        for name, samples in utterances.items():
            assert model.recognise(samples).tokens.tolist() == done.second_pass[name].tokens.tolist()


def test_whispers_loss_is_that_of_its_own_labels(whisper_folder: Path, utterances: Speech) -> None:
    model = WhisperModel.load(str(whisper_folder), language="en")
    samples = next(iter(utterances.values()))
    target = model.recognise(samples)
    example = model.example(samples).kwargs
    prompt, tokens = example["decoder_input_ids"][0], target.tokens
    labels = torch.cat([torch.full((len(prompt) - 1,), -100), tokens])[None]
    with torch.no_grad():
        out = model.net(
            input_features=example["input_features"],
            decoder_input_ids=torch.cat([prompt, tokens[:-1]])[None],
            labels=labels,
        )
        assert model.loss(samples, target).item() == pytest.approx(out.loss.item() * len(tokens), rel=1e-4)


def test_whispers_words_are_those_of_plain_generation(whisper_folder: Path, utterances: Speech) -> None:
    import transformers

    model = WhisperModel.load(str(whisper_folder), language="en")
    net = transformers.WhisperForConditionalGeneration.from_pretrained(whisper_folder)
    samples = next(iter(utterances.values()))
    plain = net.generate(model.example(samples).kwargs["input_features"], language="en", task="transcribe")[0]
    assert plain.tolist()[: len(model.recognise(samples).tokens)] == model.recognise(samples).tokens.tolist()


def test_whisper_refuses_longer_speech_and_an_unknown_language(whisper_folder: Path) -> None:
    with pytest.raises(ModelError, match="language='en'"):
        WhisperModel.load(str(whisper_folder))
    with pytest.raises(AudioError, match=r"1 s at a time, and an utterance has 2\.0 s"):
        WhisperModel.load(str(whisper_folder), language="en").recognise(torch.zeros(32000))


def test_sites_may_be_the_encoders_alone(whisper_folder: Path, utterances: Speech) -> None:
    model = WhisperModel.load(str(whisper_folder), language="en")
    sites = find_sites(
        model.net, "model.encoder.layers.*.activation_fn", example=model.example(utterances["anna-220"]), layout="BTH"
    )
    adapter = LhucAdapter.identity(model.net, sites)
    adapt_whisper(model, adapter, utterances, UpdateConfig(num_epochs=1))
    assert len(adapter.r) == 2
    assert all((r != 0).any() for r in adapter.parameters())
