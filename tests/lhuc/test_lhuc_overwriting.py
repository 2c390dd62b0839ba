"""An output is scaled where it lies only when nobody else has it: the same numbers, and nothing else is changed."""

import pytest
import torch
from torch import nn

from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.finding import find_sites


class Keeps(nn.Module):
    """Remembers what it gave, as streaming layers do."""

    def forward(self, x):
        self.last = x.sigmoid()
        return self.last


def attached_output(net, x, site, *, grad):
    adapter = LhucAdapter.identity(net, find_sites(net, site, example=x))
    with torch.no_grad():
        for r in adapter.parameters():
            r.add_(torch.linspace(-1, 1, r.numel()))
    with adapter.attached(net), torch.set_grad_enabled(grad):
        return net(x).detach()


@pytest.mark.parametrize(
    "activation",
    [nn.Sigmoid(), nn.ReLU(), nn.ReLU(inplace=True), nn.Identity(), nn.Dropout(0.5), nn.Sequential(nn.Tanh()), Keeps()],
    ids=lambda module: type(module).__name__,
)
def test_with_and_without_gradient_the_same(activation):
    net = nn.Sequential(nn.Linear(3, 5), activation, nn.Linear(5, 2)).eval().requires_grad_(False)
    x = torch.randn(4, 7, 3)
    torch.testing.assert_close(
        attached_output(net, x, "1", grad=False), attached_output(net, x, "1", grad=True), rtol=0, atol=0
    )


def test_inputs_that_come_back_are_not_changed():
    net = nn.Sequential(nn.Identity(), nn.Linear(3, 2)).eval()
    x = torch.randn(4, 3)
    before = x.clone()
    adapter = LhucAdapter({"0": torch.ones(3)})
    with adapter.attached(net), torch.inference_mode():
        net(x)
    assert torch.equal(x, before)


def test_what_a_layer_remembers_is_not_changed():
    net = nn.Sequential(nn.Linear(3, 5), Keeps()).eval()
    with LhucAdapter({"1": torch.ones(5)}).attached(net, prove=False), torch.no_grad():
        output = net(torch.randn(4, 3))
    torch.testing.assert_close(output, net[1].last * torch.ones(5).exp())


def test_what_other_hooks_saw_is_not_changed():
    net, seen = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid()).eval(), []
    net[1].register_forward_hook(lambda layer, args, output: seen.append(output))
    with LhucAdapter({"1": torch.ones(5)}).attached(net, prove=False), torch.no_grad():
        output = net(torch.randn(4, 3))
    torch.testing.assert_close(output, seen[0] * torch.ones(5).exp())
