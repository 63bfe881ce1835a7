"""Adapter of the fixtures of integer products."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.ops import read_codes, store_codes
from mmcompress.quantization import Codes


def unpacked(case: Case, key: str, bits: int, signed: bool) -> Tensor:
    """Codes, as they come out of the packed ones where there are such.

    Rows are packed one by one; the codes also pack to what is stored.
    """
    codes = case[f'in/{key}_int'].long()
    packed_key = f'in/{key}_packed{bits}'
    if packed_key not in case:
        return codes
    packed = case[packed_key].to(torch.uint8)
    num = codes.shape[1]
    rows = [read_codes(row, [num], bits) for row in packed]
    for row, stored in zip(rows, packed):
        assert torch.equal(store_codes(row, bits), stored)
    read = torch.stack(rows)
    return read if signed else read % 2**bits


def run(case: Case) -> dict[str, Tensor]:
    """An integer product, which is that of the real values."""
    hyper = case.hyper
    ternary = hyper['wbits'] == 'ternary'
    weight = Codes(
        unpacked(case, 'w', 2 if ternary else hyper['wbits'], True),
        case['in/w_scale'][:, None])
    x = Codes(
        unpacked(case, 'a', hyper['abits'], hyper['a_signed']),
        case['in/a_scale'], case['in/a_zero'].long())
    row_sums = weight.values.sum(1)
    acc = x.values @ weight.values.T - x.zero_point * row_sums
    y = acc * x.scale * weight.scale.T + case['in/bias']
    torch.testing.assert_close(
        y,
        x.dequantize() @ weight.dequantize().T + case['in/bias'])
    return {'out/acc': acc, 'out/wsum': row_sums, 'out/y': y}
