import pytest
import torch

from mvmsr.losses.total_variation import WeightedTVLoss


def test_a_step_counts_once_among_its_neighbours():
    picture = torch.zeros(1, 1, 2, 4)
    picture[..., 2:] = 0.5  # one of three differences along either row, and none down the columns
    torch.testing.assert_close(WeightedTVLoss()(picture), torch.tensor(0.5 / 3))
    torch.testing.assert_close(WeightedTVLoss(reduction="sum")(picture), torch.tensor(1.0))


def test_it_needs_no_original_and_refuses_what_gives_no_scalar():
    assert not WeightedTVLoss.needs_pairs
    with pytest.raises(ValueError, match="'none', which gives no scalar"):
        WeightedTVLoss(reduction="none")
