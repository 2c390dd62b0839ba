"""The proof chain for a stored profile finds everything that can be wrong with one."""

import pytest
import torch
from torch import nn

from helpers.stored import FINGERPRINT, profile
from lhuc_asr.errors import ProfileError, SiteError
from lhuc_asr.profiles import verification
from lhuc_asr.profiles.verification import ProfileVerifier
from lhuc_asr.tensors import digest


class Net(nn.Module):
    """Two hidden layers, and a third that nothing reads."""

    def __init__(self):
        super().__init__()
        self.lower, self.upper, self.idle = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(3, 2)
        self.out = nn.Linear(4, 2)

    def forward(self, feats):
        self.idle(feats)
        return self.out(self.upper(self.lower(feats).sigmoid()).sigmoid())


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


def verifier_of(net):
    return ProfileVerifier(net, FINGERPRINT, torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_good_profile_is_proved_and_the_model_stays(net, dtype):
    before = digest(net.state_dict())
    verifier = verifier_of(net)
    good = profile(r={"lower": (0.1 * torch.randn(5)).half().float(), "upper": torch.zeros(4)}, dtype=dtype)
    proved = verifier.verify(good)
    assert (proved.num_sites, proved.num_units) == (2, 9) and proved.effect > 0
    assert str(proved).startswith("2 sites, 9 units, the output moves by 0.0")
    verifier.verify_model()
    assert digest(net.state_dict()) == before and not net.lower._forward_hooks


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"base_fingerprint": "0" * 64}, ProfileError, "learnt for model 000000000000, this model is ffffffffffff"),
        ({"r": {"lower": torch.zeros(5)}}, ProfileError, "it has no effect"),
        ({"r": {"idle": torch.ones(2)}}, SiteError, "'idle'"),
        ({"r": {"none": torch.ones(2)}}, SiteError, "'none'"),
        ({"r": {"lower": torch.ones(4)}}, SiteError, "'lower'"),
        ({"r": {"out": torch.full((2,), 1e38)}}, ProfileError, "not finite"),
    ],
)
def test_what_is_wrong_is_told(net, changes, error, said):
    verifier = verifier_of(net)
    with pytest.raises(error, match=said):
        verifier.verify(profile(**changes))
    verifier.verify(profile(r={"lower": torch.ones(5)}))


def test_a_profile_that_does_not_come_back_is_found(net, monkeypatch):
    other = profile(r={"lower": torch.full((5,), 0.9)})
    monkeypatch.setattr(verification, "load_profile", lambda *args, **kwargs: other)
    with pytest.raises(ProfileError, match="saved and loaded again, it gives another output"):
        verifier_of(net).verify(profile(r={"lower": torch.ones(5)}))


def test_a_trace_in_the_model_is_found(net):
    verifier = verifier_of(net)
    with torch.no_grad():
        net.idle.weight += 1
    with pytest.raises(ProfileError, match="weights have changed"):
        verifier.verify_model()
    net.out.bias.data += 1
    with pytest.raises(ProfileError, match="left a trace"):
        verifier.verify(profile(r={"lower": torch.ones(5)}))
