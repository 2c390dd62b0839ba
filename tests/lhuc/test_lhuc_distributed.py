"""Data in two processes: outputs and gradients of rows are those of one process."""

import multiprocessing

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from helpers.speech_nets import CASES
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.lhuc.finding import find_sites

X = torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(2))
SPEAKERS = ["ann", "ben", "ann", None]


class Personal(nn.Module):
    """A net and its speakers in one module, so that the gradients of the rows are added up over the processes."""

    def __init__(self):
        super().__init__()
        self.net = CASES["linear"].net()
        self.bank = SpeakerBank(find_sites(self.net, "1", example=X), capacity=2).requires_grad_(True)
        for seed, speaker in enumerate(["ann", "ben"]):
            r = torch.rand(4, generator=torch.Generator().manual_seed(seed))
            self.bank.put(speaker, LhucAdapter({"1": r}))

    def forward(self, x, speakers):
        with self.bank.speakers(speakers):
            return self.net(x)


def trained(place=0, num_places=1):
    """Outputs of this process's part of the batch, and gradients of all rows."""
    personal = Personal()
    model = DistributedDataParallel(personal) if num_places > 1 else personal
    part = slice(place * 4 // num_places, (place + 1) * 4 // num_places)
    with personal.bank.attached(personal.net):
        output = model(X[part], SPEAKERS[part])
        output.square().mean().backward()
    return output.detach(), personal.bank.tables[0].grad


def one_of_two(place, store, results):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", store=distributed.FileStore(store, 2), rank=place, world_size=2)
    try:
        results.put((place, *(tensor.tolist() for tensor in trained(place, 2))))
    finally:
        distributed.destroy_process_group()


def test_two_processes_are_as_one(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [
        context.Process(target=one_of_two, args=(place, str(tmp_path / "store"), results), daemon=True)
        for place in range(2)
    ]
    for worker in workers:
        worker.start()
    found = sorted(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    output, gradient = trained()
    torch.testing.assert_close(torch.cat([torch.tensor(part) for _, part, _ in found]), output)
    for _, _, theirs in found:
        torch.testing.assert_close(torch.tensor(theirs), gradient)


@pytest.fixture
def alone(tmp_path):
    distributed.init_process_group("gloo", store=distributed.FileStore(str(tmp_path / "s"), 1), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_adapters_and_banks_take_a_net_that_is_wrapped(alone):
    net = CASES["linear"].net().requires_grad_(True)
    wrapped = DistributedDataParallel(net)
    sites = find_sites(wrapped, "1", example=X)
    assert [site.name for site in sites] == ["1"]
    plain = wrapped(X)
    adapter = LhucAdapter({"1": torch.ones(4)})
    with adapter.attached(wrapped):
        assert not torch.allclose(wrapped(X), plain)
        wrapped(X).sum().backward()
    assert adapter.r["1"].grad.any()
    with SpeakerBank.identity(wrapped, sites, ["ann"]).attached(wrapped) as used:
        assert used is wrapped
    assert torch.equal(wrapped(X), plain)
