"""An output is scaled where it lies only when nobody else has it: the same numbers, and nothing else is changed."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.layout import Layout


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


def test_what_hooks_of_all_modules_saw_is_not_changed():
    net, seen = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid()).eval(), {}
    everywhere = register_module_forward_hook(lambda layer, args, output: seen.update({layer: output}))
    try:
        with LhucAdapter({"1": torch.ones(5)}).attached(net, prove=False), torch.no_grad():
            output = net(torch.randn(4, 3))
    finally:
        everywhere.remove()
    torch.testing.assert_close(output, seen[net[1]] * torch.ones(5).exp())


def test_what_a_forward_of_its_own_remembers_is_not_changed():
    net, kept = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid()).eval(), []

    def own(x):
        kept.append(x.sigmoid())
        return kept[-1]

    net[1].forward = own
    with LhucAdapter({"1": torch.ones(5)}).attached(net, prove=False), torch.no_grad():
        output = net(torch.randn(4, 3))
    torch.testing.assert_close(output, kept[0] * torch.ones(5).exp())


def test_tensors_that_lie_in_no_one_place():
    net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid()).eval()
    x = torch.eye(3)
    expected = attached_output(net, x, "0", grad=False)
    with LhucAdapter({"0": torch.linspace(-1, 1, 5)}).attached(net, prove=False), torch.no_grad():
        torch.testing.assert_close(net(x.to_sparse()), expected)
        torch.testing.assert_close(torch.vmap(net)(x), expected)


@pytest.mark.parametrize("layout", ["*H", "BHT"])
def test_every_change_of_r_takes_effect_at_the_next_call(layout):
    net, x = nn.Sequential(nn.Sigmoid()).eval(), torch.randn(2, 4, 4)
    adapter = LhucAdapter({"0": torch.zeros(4)}, layouts={"0": Layout(layout)})
    r = adapter.r["0"]
    optimiser = torch.optim.SGD([r], lr=0.5)

    def step():
        r.grad = torch.randn(4)
        optimiser.step()

    def reload():
        other = nn.ParameterDict({"0": r})
        other.load_state_dict({"0": torch.randn(4)})

    def within_inference_mode():
        with torch.inference_mode():
            r.add_(torch.randn(4))

    changes = [
        lambda: r.data.copy_(torch.randn(4)),
        lambda: r.data[1:2].add_(1),
        lambda: setattr(r, "data", torch.randn(4)),
        lambda: r.detach().numpy().__setitem__(2, 3.0),
        lambda: r.detach().add_(torch.randn(4)),
        within_inference_mode,
        step,
        reload,
        lambda: adapter.r.update({"0": nn.Parameter(torch.randn(4))}),
    ]
    with adapter.attached(net, prove=False):
        for change in changes:
            before = adapter.r["0"].detach().clone()
            change()
            now = adapter.r["0"].detach()
            assert not torch.equal(now, before)
            with torch.no_grad():
                factors = now.exp() if layout == "*H" else now.exp()[:, None]
                torch.testing.assert_close(net(x), x.sigmoid() * factors, rtol=0, atol=0)


def test_a_net_may_change_inside_the_block():
    net, x = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)).eval(), torch.randn(4, 3)
    adapter = LhucAdapter({"0": torch.ones(5)})
    with adapter.attached(net, prove=False), torch.no_grad():
        net(x)
        net.load_state_dict({name: torch.randn_like(value) for name, value in net.state_dict().items()})
        torch.testing.assert_close(net(x), net[1].forward(net[0].forward(x) * torch.e))
        net.to(torch.float64)
        torch.testing.assert_close(net(x.double()), net[1].forward(net[0].forward(x.double()) * adapter.r["0"].exp()))
        net[0].register_forward_hook(lambda layer, args, output: None)
        net[0].add_module("inner", nn.Identity())
        net(x.double())
