"""What `import lhuc_asr as la` offers, used as the README shows it."""

import pytest
import torch
from torch import nn

import lhuc_asr as la


@pytest.mark.parametrize("name", dir(la))
def test_every_name_can_be_had(name):
    assert getattr(la, name) is not None


def test_a_wrong_name_is_answered_with_the_right_ones():
    with pytest.raises(AttributeError, match="find_sites"):
        _ = la.find_site


class Encoder(nn.Module):
    def __init__(self, num_layers=2, dim=6, hidden=12):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(dim, hidden), "activation": nn.ReLU(), "down": nn.Linear(hidden, dim)})
            for _ in range(num_layers)
        )
        self.output = nn.Linear(dim, 5)

    def forward(self, feats_BTF):
        for layer in self.layers:
            feats_BTF = feats_BTF + layer["down"](layer["activation"](layer["up"](feats_BTF)))
        return self.output(feats_BTF).log_softmax(dim=-1)


def test_the_example_of_the_readme(tmp_path):
    model, feats = Encoder().eval().requires_grad_(False), torch.randn(3, 7, 6)
    targets = torch.randint(5, (3, 7))

    sites = la.find_sites(model, "layers.*.activation", example=feats)
    adapter = la.LhucAdapter.identity(model, sites, amplitude="exp")
    optimiser = torch.optim.SGD(adapter.parameters(), lr=0.8)
    with adapter.attached(model):
        for _ in range(3):
            optimiser.zero_grad()
            nn.functional.nll_loss(model(feats).flatten(0, 1), targets.flatten()).backward()
            optimiser.step()

    store = la.ProfileStore.open(tmp_path / "profiles", fingerprint=la.fingerprint(model), create=True)
    store.put(la.Profile.from_adapter(adapter, speaker="0024", base_fingerprint=la.fingerprint(model)))
    store.put(
        la.Profile.from_adapter(
            la.LhucAdapter.identity(model, sites), speaker="0025", base_fingerprint=la.fingerprint(model)
        )
    )

    bank = la.SpeakerBank.from_profiles(model, [store.get("0024"), store.get("0025")])
    with bank.attached(model), bank.speakers(["0024", "0025", "0024"]):
        mixed = model(feats)
    with adapter.attached(model):
        torch.testing.assert_close(mixed[[0, 2]], model(feats)[[0, 2]])
    torch.testing.assert_close(mixed[1], model(feats)[1])

    fast = la.fold(model, store.get("0024"), feats)
    torch.testing.assert_close(fast(feats)[[0, 2]], mixed[[0, 2]])
    assert la.fingerprint(fast) != la.fingerprint(model)
