import pytest
import torch

from mmcompress.ops import read_codes, store_codes


@pytest.mark.parametrize('bits', range(2, 9))
def test_codes_come_back(bits):
    """All that there are, of which some fill no whole byte."""
    codes = torch.arange(-2**(bits - 1), 2**(bits - 1))[1:].view(1, -1, 1, 1)
    for kept in (codes, codes.flip(1), codes[:, :1], codes[:, :0]):
        stored = store_codes(kept.float(), bits)
        assert stored.dtype == torch.uint8
        per_byte = 8 // min(width for width in (2, 4, 8) if width >= bits)
        assert stored.numel() == -(-kept.numel() // per_byte)
        assert read_codes(stored, kept.shape, bits).equal(kept)


def test_the_first_code_is_in_the_lowest_bits():
    assert store_codes(torch.tensor([1, -1, 0, -2, 1]),
                       2).tolist() == [0b10_00_11_01, 0b01]
    assert store_codes(torch.tensor([-8, 7]), 4).tolist() == [0x78]


@pytest.mark.parametrize('bits', range(2, 9))
def test_a_code_that_does_not_fit_is_refused(bits):
    limit = 2**(bits - 1)
    store_codes(torch.tensor([-limit, limit - 1]), bits)
    for code in (limit, -limit - 1):
        with pytest.raises(ValueError, match=f'{bits} bits are in .* {code}'):
            store_codes(torch.tensor([0, code]), bits)


@pytest.mark.parametrize('bits', [1, 9])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=f'2 to 8 bits, got {bits}'):
        store_codes(torch.zeros(1), bits)
