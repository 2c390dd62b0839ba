"""Random streams that depend on a seed, and the counting of right frames."""

import torch

from lhuc_asr.training.examples.seeds import seed_device
from lhuc_asr.training.tasks.objectives import count_correct


def test_a_device_is_seeded_as_by_torch():
    with torch.random.fork_rng():
        seed_device(torch.device("cpu"), 7)
        ours = torch.rand(5)
        torch.manual_seed(7)
        assert torch.equal(ours, torch.rand(5))


def test_a_frame_is_right_where_its_state_is_the_likeliest():
    log_probs = torch.log_softmax(torch.randn(400, 30, generator=torch.Generator().manual_seed(1)), dim=1)
    targets = torch.cat([log_probs.argmax(dim=1)[:150], log_probs.argmin(dim=1)[150:]])
    assert count_correct(log_probs, targets) == 150


def test_where_all_states_are_alike_the_first_is_taken_and_not_every_target_right():
    assert count_correct(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])) == 2
