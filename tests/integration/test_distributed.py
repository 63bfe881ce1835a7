import pytest
import torch
from integration.small_runs import (fgd, ida_det, losses, train, weights,
                                    write_config)


@pytest.mark.parametrize('model', [
    pytest.param(fgd, marks=pytest.mark.slow),
    pytest.param(ida_det, marks=[pytest.mark.slow, pytest.mark.gate])
])
def test_two_processes_equal_accumulation_in_one(model, tmp_path):
    """Each process gets every second image; so do the halves of a step."""
    plain = dict(batch_size=1, shuffle=False, augment='')
    one, two = tmp_path / 'one', tmp_path / 'two'
    config = write_config(
        tmp_path / 'one.py', model(), accumulative_counts=2, **plain)
    train(config, one)
    config = write_config(tmp_path / 'two.py', model(), **plain)
    train(config, two, processes=2)

    first, both = losses(one), losses(two)
    assert len(first) == 8 and len(both) == 4
    for single, rank0 in zip(first[::2], both):
        for key, value in single.items():
            if 'loss' in key:
                assert rank0[key] == pytest.approx(value, rel=1e-5), key
    expected, actual = weights(one, 'epoch_1.pth'), weights(two, 'epoch_1.pth')
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            actual[key], value, rtol=1e-5, atol=1e-5, msg=key)
    # the training changed what is compared
    assert any(k.startswith('distill.') for k in expected)
    assert all(row[f'loss_{model.__name__.split("_")[0]}'] for row in first)
