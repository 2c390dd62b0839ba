"""Compiled nets: scales act whenever the net was compiled, rows are swapped without compiling, nothing stays behind."""

import threading

import pytest
import torch
from torch import nn

from helpers.speech_nets import CASES
from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.gated_sites import GatedSites

NAMES = ["linear", "conv2d, per channel and band", "our net"]
every_net = pytest.mark.parametrize("name", NAMES)


class Counting:
    """A compiler that changes nothing and counts the graphs that it is given."""

    def __init__(self):
        self.num_graphs = 0

    def __call__(self, graph, example_inputs):
        self.num_graphs += 1
        return graph.forward


@pytest.fixture
def compiler():
    torch._dynamo.reset()
    yield Counting()
    torch._dynamo.reset()


def made(name):
    case = CASES[name]
    net = case.net()
    return case, net, find_sites(net, case.site, example=case.example(), per_band=case.per_band), case.example(4)


def random_adapter(sites, seed=0):
    generator = torch.Generator().manual_seed(seed)
    r = {site.name: torch.rand(site.units, generator=generator) + 0.2 for site in sites}
    return LhucAdapter(r, layouts={site.name: site.layout for site in sites})


def random_bank(sites, speakers=("ann", "ben", "eve")):
    bank = SpeakerBank(sites)
    for seed, speaker in enumerate(speakers):
        bank.put(speaker, random_adapter(sites, seed))
    return bank


@every_net
@torch.no_grad()
def test_rows_are_swapped_without_compiling_anew(name, compiler):
    case, net, sites, example = made(name)
    bank = random_bank(sites)
    with bank.attached(net):
        compiled = torch.compile(net, backend=compiler, fullgraph=True)

        def check(ids):
            with bank.speakers(ids):
                torch.testing.assert_close(case.run(compiled, example), case.run(net, example))

        check(["ann", "ben", None, "ann"])
        num_graphs = compiler.num_graphs
        check(["ben", "ben", "eve", None])
        bank.put("ann", random_adapter(sites, 9))
        check(["ann", None, None, "eve"])
        bank.evict("ben")
        bank.put("zoe", random_adapter(sites, 10))
        check(["zoe", "ann", None, "eve"])
    assert compiler.num_graphs == num_graphs


@every_net
@torch.no_grad()
@pytest.mark.parametrize("fullgraph", [True, False])
def test_a_net_compiled_and_used_before_takes_scales_on_and_off(name, fullgraph, compiler):
    case, net, sites, example = made(name)
    plain = case.run(net, example)
    compiled = torch.compile(net, backend=compiler, fullgraph=fullgraph)
    torch.testing.assert_close(case.run(compiled, example), plain)
    for adapter in (random_adapter(sites, 1), random_adapter(sites, 2)):
        with adapter.attached(compiled):
            scaled = case.run(compiled, example)
            torch.testing.assert_close(scaled, case.run(net, example))
            assert not torch.allclose(scaled, plain)
        num_graphs = compiler.num_graphs
        torch.testing.assert_close(case.run(compiled, example), plain)
        assert compiler.num_graphs == num_graphs  # the plain code is still there


@torch.no_grad()
def test_a_net_compiled_in_place_or_as_a_part(compiler):
    case, net, sites, example = made("linear")
    plain = case.run(net, example)
    net.compile(backend=compiler)
    outer = torch.compile(nn.Sequential(net), backend=compiler)
    for call in (net, outer):
        torch.testing.assert_close(case.run(call, example), plain)
        with random_adapter(sites).attached(net):
            assert not torch.allclose(case.run(call, example), plain)
        torch.testing.assert_close(case.run(call, example), plain)


@torch.no_grad()
def test_the_fast_path_of_a_compiled_transformer(compiler):
    case, net, sites, example = made("transformer, fast path")
    compiled = torch.compile(net, backend=compiler)
    plain = case.run(compiled, example)
    with random_adapter(sites).attached(net):
        scaled = case.run(compiled, example)
        torch.testing.assert_close(scaled, case.run(net, example))
        assert not torch.allclose(scaled, plain)
    torch.testing.assert_close(case.run(compiled, example), plain)


def test_r_learns_through_compiled_code(compiler):
    case, net, sites, example = made("our net")
    adapter, other = random_adapter(sites), random_adapter(sites)
    with adapter.attached(net):
        case.run(torch.compile(net, backend=compiler), example).square().sum().backward()
    with other.attached(net):
        case.run(net, example).square().sum().backward()
    for ours, theirs in zip(adapter.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@torch.no_grad()
@pytest.mark.parametrize("name", ["conv1d", "our net"])
def test_batches_of_all_sizes_share_their_code(name, compiler):
    case, net, sites, _ = made(name)
    bank = random_bank(sites)
    with bank.attached(net):
        compiled = torch.compile(net, backend=compiler)
        for size in range(2, 7):
            example = case.example(size, 6 + size)
            with bank.speakers(["ann", *["ben"] * (size - 1)]):
                torch.testing.assert_close(case.run(compiled, example), case.run(net, example))
    assert compiler.num_graphs <= 3  # of fixed size, of any size, and once more for what was fixed by chance


@torch.no_grad()
def test_threads_never_mix_in_compiled_code(compiler):
    _, net, sites, _ = made("conv1d")
    speakers = [f"s{place}" for place in range(8)]
    bank = random_bank(sites, speakers)
    x = torch.randn(2, 4, 5)
    expected = {}
    with bank.attached(net):
        for speaker in speakers:
            with bank.speakers([speaker, None]):
                expected[speaker] = net(x)
        compiled = torch.compile(net, backend=compiler, fullgraph=True)
        wrong = []

        def work(speaker):
            for _ in range(40):
                with bank.speakers([speaker, None]):
                    if not torch.allclose(compiled(x), expected[speaker]):
                        wrong.append(speaker)

        _in_threads(work, speakers)
    assert not wrong


def _in_threads(work, speakers):
    threads = [threading.Thread(target=work, args=(speaker,)) for speaker in speakers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@torch.no_grad()
def test_a_compiled_net_without_speakers_is_refused(compiler):
    case, net, sites, example = made("linear")
    bank = random_bank(sites)
    with bank.attached(net), pytest.raises(SiteError, match="named no speakers"):
        case.run(torch.compile(net, backend=compiler), example)


@every_net
def test_given_scales_act_in_compiled_nets_and_change_without_compiling_again(compiler, name):
    case, net, sites, example = made(name)
    gated, compiled, num_graphs = GatedSites(sites), torch.compile(net, backend=compiler), []
    with gated.attached(net):
        for _ in range(3):
            scales = {site.name: torch.rand(4, *site.units, requires_grad=True) for site in sites}
            with gated.scaled_by(scales):
                torch.testing.assert_close(case.run(compiled, example), case.run(net, example))
                outputs = [case.run(one, example).square().sum() for one in (compiled, net)]
            expected, got = (torch.autograd.grad(output, list(scales.values())) for output in outputs)
            torch.testing.assert_close(got, expected)
            num_graphs.append(compiler.num_graphs)
    assert num_graphs[0] >= 1 and len(set(num_graphs)) == 1


@torch.no_grad()
def test_the_proof_is_of_the_net_and_not_of_compiled_code(compiler):
    class Ignoring(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.ignored = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            self.ignored(x)
            return self.used(x)

    net, x = Ignoring(), torch.randn(2, 3, 4)
    with LhucAdapter({"ignored": torch.ones(4)}).attached(net):
        torch.compile(net, backend=compiler)(x)
        with pytest.raises(SiteError, match="'ignored' changes nothing"):
            net(x)


@pytest.mark.slow
@torch.no_grad()
def test_the_default_compiler():
    torch._dynamo.reset()
    case, net, sites, example = made("linear")
    bank = random_bank(sites)
    with bank.attached(net):
        compiled = torch.compile(net)
        for ids in (["ann", "ben", None, "ann"], ["eve", None, None, "ben"]):
            with bank.speakers(ids):
                torch.testing.assert_close(case.run(compiled, example), case.run(net, example))
    torch.testing.assert_close(case.run(compiled, example), case.run(net, example))
