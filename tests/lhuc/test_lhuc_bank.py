"""The bank: rows put, evicted, grown, stored and moved; threads and tasks that never mix."""

import asyncio
import contextlib
import copy
import random
import threading
import time

import pytest
import torch
from torch import nn

from helpers.speech_nets import CASES
from lhuc_asr.errors import ProfileError, SiteError, SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.lhuc.sites import Site

X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def net():
    return CASES["linear"].net()


@pytest.fixture
def sites(net):
    return find_sites(net, "1", example=X)


def constant(value, name="1"):
    return LhucAdapter({name: torch.full((4,), float(value))})


def bank_of(sites, **values):
    bank = SpeakerBank(sites, capacity=max(1, len(values)))
    for speaker, value in values.items():
        bank.put(speaker, constant(value))
    return bank


def alone(net, value):
    with constant(value).attached(net):
        return net(X)


@torch.no_grad()
def test_ids_are_those_of_the_utterances_and_none_is_the_plain_net(net, sites):
    bank, plain = bank_of(sites, ann=0.5, ben=-1), net(X)
    with bank.attached(net):
        with bank.speakers(["ben", None]):
            mixed = net(X)
        with bank.speakers([None, None]):
            assert torch.equal(net(X), plain)
    assert torch.equal(mixed, torch.stack([alone(net, -1)[0], plain[1]]))
    assert torch.equal(net(X), plain)


@torch.no_grad()
def test_an_unknown_speaker_is_refused_never_the_plain_net(net, sites):
    bank = bank_of(sites, ann=0.5, anna=1)
    with bank.attached(net):
        with (
            pytest.raises(SpeakerError, match=r"'anne' is not among the 2 .*nearest: 'ann"),
            bank.speakers(["anne", None]),
        ):
            pass
        with pytest.raises(SiteError, match=r"this thread has named no speakers: use `with bank.speakers"):
            net(X)
        with pytest.raises(SpeakerError, match=r"one id for each utterance .*such as \['ann'\]"), bank.speakers("ann"):
            pass


@torch.no_grad()
def test_a_speaker_put_in_anew_changes_only_later_batches(net, sites):
    bank = bank_of(sites, ann=0.5)
    with bank.attached(net):
        with bank.speakers(["ann", "ann"]):
            before = net(X)
            bank.put("ann", constant(1.5))
            bank.put("eve", constant(-2))
            bank.evict("eve")
            assert torch.equal(net(X), before)
            with bank.speakers(["ann", None]):
                assert torch.equal(net(X)[0], alone_in(bank, net, 1.5))
            assert torch.equal(net(X), before)
        with bank.speakers(["ann", None]):
            assert torch.equal(net(X)[0], alone_in(bank, net, 1.5))


def alone_in(bank, net, value):
    copy = CASES["linear"].net()
    copy.load_state_dict(net.state_dict())
    return alone(copy, value)[0]


@torch.no_grad()
def test_a_speaker_evicted_while_a_batch_is_under_way_is_read_to_its_end(net, sites):
    bank = bank_of(sites, ann=0.5)
    with bank.attached(net):
        with bank.speakers(["ann", None]):
            before = net(X)
            bank.evict("ann")
            for place in range(40):
                bank.put(f"other {place}", constant(place / 40))
            assert torch.equal(net(X), before)
        assert "ann" not in bank and len(bank) == 40
        with pytest.raises(SpeakerError, match="'ann' is not among"), bank.speakers(["ann"]):
            pass


def test_evicted_rows_are_wiped_and_used_again(sites):
    bank = bank_of(sites, ann=0.5, ben=-1)
    bank.evict("ann")
    assert not (bank.tables[0] == 0.5).any()
    for place in range(100):
        bank.put("ann", constant(place))
    assert len(bank.tables[0]) == 6  # three were too few while the old row of ann was still hers
    assert bank.known == ("ben", "ann") and bank.adapter("ann").r["1"].tolist() == [99] * 4


@torch.no_grad()
def test_growth_keeps_everybody(net, sites):
    bank = SpeakerBank(sites, capacity=1)
    for place in range(33):
        bank.put(str(place), constant(place / 33))
    with bank.attached(net), bank.speakers(["0", "32"]):
        mixed = net(X)
    assert torch.equal(mixed, torch.stack([alone(net, 0)[0], alone(net, 32 / 33)[1]]))


@pytest.mark.parametrize("kind", Amplitude)
def test_row_0_and_new_rows_are_the_identity(net, sites, kind):
    bank = SpeakerBank.identity(net, sites, ["ann", "ben", "ann"], kind)
    assert bank.known == ("ann", "ben")
    for speaker in (None, "ben"):
        assert torch.equal(bank.adapter(speaker).scales()["1"], torch.ones(4))
    assert bank.adapter(None).sites == bank.sites


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (LhucAdapter({"1": torch.zeros(4)}, Amplitude.relu), "has relu scales for '1' .*the bank has exp scales"),
        (LhucAdapter({"1": torch.zeros(5)}), r"has exp scales for '1' \(5\), the bank has exp scales for '1' \(4\)"),
        (LhucAdapter({"0": torch.zeros(4)}), r"'0' \(4\), the bank has exp scales for '1'"),
        (LhucAdapter({"1": torch.zeros(4), "0": torch.zeros(4)}), "has exp scales"),
    ],
)
def test_foreign_parameters_are_refused(sites, adapter, reason):
    bank = bank_of(sites, ann=1)
    with pytest.raises(SiteError, match=reason):
        bank.put("ann", adapter)
    assert bank.adapter("ann").r["1"].tolist() == [1] * 4


@pytest.mark.parametrize("wrong", [[], [Site("1", (4,)), Site("1", (4,))]])
def test_a_bank_needs_sites_and_each_once(wrong):
    with pytest.raises(SiteError, match="at least one site, and each once"):
        SpeakerBank(wrong)


class Stored:
    sha256 = "0" * 64

    def __init__(self, speaker, adapter, model):
        self.speaker, self._adapter, self.base_fingerprint = speaker, adapter, fingerprint(model)

    def adapter(self):
        return self._adapter


@torch.no_grad()
def test_stored_speakers(net, sites):
    profiles = [Stored("ann", constant(0.5), net), Stored("../x", constant(-1), net)]
    bank = SpeakerBank.from_profiles(net, profiles, sites=sites)
    with bank.attached(net), bank.speakers(["../x", "ann"]):
        mixed = net(X)
    assert torch.equal(mixed, torch.stack([alone(net, -1)[0], alone(net, 0.5)[1]]))
    with pytest.raises(SiteError, match="does not tell the 2 utterances"):
        bank = SpeakerBank.from_profiles(net, profiles)
        with bank.attached(net), bank.speakers(["ann", None]):
            net(X)
    with pytest.raises(SiteError, match="at least one profile"):
        SpeakerBank.from_profiles(net, [])
    with pytest.raises(SpeakerError, match="two profiles of speaker 'ann'"):
        SpeakerBank.from_profiles(net, [profiles[0], profiles[0]])


def test_a_profile_of_another_model_is_refused(net):
    other = copy.deepcopy(net)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(ProfileError, match="profile of speaker 'ann' was learnt for model"):
        SpeakerBank.from_profiles(other, [Stored("ann", constant(0.5), net)])


@torch.no_grad()
def test_its_state_is_tensors_only_and_round_trips(net, sites):
    bank = bank_of(sites, ann=0.5, **{"../x": -1, "日本": 2})
    bank.evict("ann")
    state = bank.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert not any("x" in name and ".." in name for name in state)
    other = SpeakerBank(sites, capacity=50)
    assert not any(other.load_state_dict(state))
    assert other.known == ("../x", "日本") and "ann" not in other
    for speaker in (None, *bank.known):
        assert torch.equal(other.adapter(speaker).r["1"], bank.adapter(speaker).r["1"])
    other.put("ann", constant(3))
    assert float(other.adapter("日本").r["1"][0]) == 2
    with pytest.raises(SiteError, match="the stored bank has exp scales"):
        SpeakerBank(sites, Amplitude.relu).load_state_dict(state)
    with pytest.raises(SiteError, match="the stored bank has exp scales"):
        SpeakerBank([Site("2", (4,))]).load_state_dict(state)


@torch.no_grad()
@pytest.mark.parametrize("under_way", [False, True])
def test_a_state_that_is_refused_changes_nothing(net, sites, under_way):
    bank = bank_of(sites, **{f"s{number}": number / 9 for number in range(30)})
    before = {name: value.clone() for name, value in bank.state_dict().items()}
    other = bank_of(sites, ann=1) if under_way else SpeakerBank(sites, Amplitude.relu)
    assert len(other.tables[0]) != len(bank.tables[0])
    with bank.attached(net), bank.speakers(["s29", "s28"]) if under_way else contextlib.nullcontext():
        with pytest.raises(SpeakerError if under_way else SiteError):
            bank.load_state_dict(other.state_dict())
        if under_way:
            net(X)
    after = bank.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(value, before[name]) for name, value in after.items())


@torch.no_grad()
def test_a_bank_inside_a_module_is_stored_with_it(net, sites):
    both = nn.ModuleDict({"net": net, "bank": bank_of(sites, ann=0.5, ben=1, eve=2)})
    other = nn.ModuleDict({"net": CASES["linear"].net(9), "bank": SpeakerBank(sites)})
    other.load_state_dict(both.state_dict())
    assert other["bank"].known == ("ann", "ben", "eve")


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tables_move(net, sites, dtype):
    bank, plain = bank_of(sites, ann=0.5).to(dtype), net(X)
    assert bank.tables[0].dtype == dtype
    with bank.attached(net), bank.speakers(["ann", None]):
        mixed = net(X)
    assert mixed.dtype == torch.float32 and torch.equal(mixed[1], plain[1])
    torch.testing.assert_close(mixed[0], alone(net, 0.5)[0], rtol=1e-2, atol=1e-2)


def test_what_is_put_in_under_inference_mode_can_still_learn(net, sites):
    bank = bank_of(sites).requires_grad_(True)
    with torch.inference_mode():
        for place in range(20):
            bank.put(str(place), constant(0))
        with bank.attached(net), bank.speakers(["1", None]):
            net(X)
    with bank.attached(net), bank.speakers(["3", "7"]):
        net(X).square().sum().backward()
    assert bank.tables[0].grad[bank._rows.row("3")].any()
    assert not bank.tables[0].grad[bank._rows.row("4")].any()


@torch.no_grad()
def test_speakers_do_not_disturb_gradients_being_off(net, sites):
    bank = bank_of(sites, ann=1).requires_grad_(True)
    with bank.attached(net), bank.speakers(["ann", None]):
        assert not torch.is_grad_enabled() and not net(X).requires_grad


@torch.no_grad()
def test_eight_threads_never_mix_while_others_come_and_go(net, sites):
    """Threads begin at once, before anything is proved, and a ninth puts and evicts all the time."""
    values = {f"s{place}": place / 4 - 1 for place in range(8)}
    bank = bank_of(sites, **values)
    expected = {speaker: alone(CASES["linear"].net(), value)[0] for speaker, value in values.items()}
    plain, wrong, ready = net(X)[1], [], threading.Barrier(9)

    def decode(speaker):
        ready.wait()
        for _ in range(150):
            with bank.speakers([speaker, None]):
                output = net(X)
            if not (torch.equal(output[0], expected[speaker]) and torch.equal(output[1], plain)):
                wrong.append(speaker)

    def come_and_go():
        ready.wait()
        draw = random.Random(1)
        for turn in range(300):
            speaker = draw.choice(list(values))
            bank.put(speaker, constant(values[speaker]))
            bank.put(f"guest {turn % 40}", constant(turn))
            if turn % 3 == 0:
                bank.evict(f"guest {turn % 40}")

    with bank.attached(net):
        threads = [threading.Thread(target=decode, args=(speaker,)) for speaker in values]
        _run([*threads, threading.Thread(target=come_and_go)])
    assert not wrong
    assert not +bank._rows._readers


def _run(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@torch.no_grad()
def test_a_proof_in_one_thread_is_not_seen_in_others(net, sites):
    """One thread proves the sites again and again, on the net that others use, also through another method."""
    bank, expected, wrong, stop = bank_of(sites, ann=0.5), alone(net, 0.5)[0], [], threading.Event()

    def decode():
        with bank.speakers(["ann", None]):
            while not stop.is_set():
                if not torch.equal(net.forward(X)[0], expected):
                    wrong.append(1)

    def prove():
        try:
            for _ in range(60):
                prove_sites_act(net, sites, X, modes=["evaluation"])
        except SiteError:
            wrong.append("proof")
        finally:
            stop.set()

    with bank.attached(net):
        _run([threading.Thread(target=decode), threading.Thread(target=decode), threading.Thread(target=prove)])
    assert not wrong


@torch.no_grad()
def test_tasks_that_compute_without_awaiting_do_not_mix(net, sites):
    values = {f"s{place}": place / 4 for place in range(4)}
    bank = bank_of(sites, **values)
    expected = {speaker: alone(net, value)[0] for speaker, value in values.items()}

    async def serve(speaker):
        for _ in range(20):
            await asyncio.sleep(0)
            with bank.speakers([speaker, None]):
                assert torch.equal(net(X)[0], expected[speaker])

    async def all_of_them():
        await asyncio.gather(*map(serve, values))

    with bank.attached(net):
        asyncio.run(all_of_them())


@torch.no_grad()
def test_tasks_that_await_inside_the_block_are_refused_not_mixed(net, sites):
    bank, plain = bank_of(sites, ann=0.5, ben=1), net(X)
    expected = alone(net, 0.5)[0]

    async def awaits():
        with bank.speakers(["ann", None]):
            await asyncio.sleep(0.01)
            assert torch.equal(net(X)[0], expected)

    async def names_its_own():
        await asyncio.sleep(0.001)
        with pytest.raises(SpeakerError, match="another asyncio task"), bank.speakers(["ben", None]):
            pass

    async def names_nobody():
        await asyncio.sleep(0.001)
        with pytest.raises(SiteError, match="named by another asyncio task"):
            net(X)

    async def computes_in_a_thread():
        def work():
            with bank.speakers([None, None]):
                return net(X)

        assert torch.equal(await asyncio.to_thread(work), plain)

    async def all_of_them():
        await asyncio.gather(awaits(), names_its_own(), names_nobody(), computes_in_a_thread())

    with bank.attached(net, prove=False):
        asyncio.run(all_of_them())


@torch.no_grad()
def test_where_rows_of_all_utterances_follow_each_other_the_input_says_how_many_there_are():
    case = CASES["our net"]
    net, example = case.net(), case.example(4)
    bank = SpeakerBank.identity(net, find_sites(net, case.site, example=example), ["ann"])
    with bank.attached(net):
        with (
            pytest.raises(SiteError, match=r"3 speakers were named.*called with \(4, 6, 4\)"),
            bank.speakers(["ann"] * 3),
        ):
            net(*example.args)
        reason = r"2 utterances of 7 rows in all were announced, .* gives 24"
        with pytest.raises(SiteError, match=reason), bank.speakers(["ann"] * 2, num_rows=[3, 4]):
            net(*example.args)
        reason = "3 speakers were named, but the rows of 2"
        with pytest.raises(SiteError, match=reason), bank.speakers(["ann"] * 3, num_rows=[3, 4]):
            pass


@torch.no_grad()
def test_packed_sequences_of_an_unproved_order_take_one_speaker_only():
    case = CASES["packed"]
    net, example = case.net(), case.example(4)
    bank = SpeakerBank.identity(net, find_sites(net, ["gru", "lstm"], layout=Layout("*H")), ["ann"])
    reason = "whose order in the batch is not proved"
    with bank.attached(net), pytest.raises(SiteError, match=reason), bank.speakers(["ann"] * 4):
        case.run(net, example)


@torch.no_grad()
def test_threads_that_begin_together_wait_for_one_proof(net, sites):
    bank, ready, runs = bank_of(sites, ann=1), threading.Barrier(8), []

    def count(layer, inputs, output):
        time.sleep(0.005)  # long enough for all threads to be under way
        runs.append(1)

    def work():
        ready.wait()
        with bank.speakers(["ann", None]):
            net(X)

    net[2].register_forward_hook(count)
    with bank.attached(net):
        _run([threading.Thread(target=work) for _ in range(8)])
    assert len(runs) == 1 + len(sites) + 8
