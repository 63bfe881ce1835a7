import torch

from mmcompress.quantization import LSF, LSQ, ActBi, SignActivation, SignWeight


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention_map():
    return (3 * normal(2, 3, 8, 8)).softmax(-1)


def test_lsf_neither_keeps_nor_drops_all_of_an_attention_map():
    quantizer = LSF(axis=1, size=3)
    x = attention_map()
    quantizer(x)
    ones = quantizer.quantize_int(x).values.float().mean((0, 2, 3))
    assert ((0.01 < ones) & (ones < 0.99)).all()


def test_lsf_is_lsq_of_one_unsigned_bit():
    x = attention_map()
    quantizers = [LSF(axis=1, size=3), LSQ(1, axis=1, size=3, signed=False)]
    results = [quantizer(x) for quantizer in quantizers]
    assert torch.equal(*results)
    torch.testing.assert_close(quantizers[0].scale.detach(), 2 * x.mean(
        (0, 2, 3)))


def test_the_released_binarizer_makes_an_attention_map_constant():
    quantizer = ActBi(axis=1, size=3)
    y = quantizer(attention_map())
    assert all(y[:, head].unique().numel() == 1 for head in range(3))


def test_zeros_are_positive_unless_as_released():
    x = torch.tensor([-2., 0, 2])
    weight = torch.tensor([[-2., 0, 1]])
    for zero_to in (1, 0):
        assert SignActivation(zero_to=zero_to)(x).tolist() == [-1, zero_to, 1]
        assert SignWeight(zero_to=zero_to)(weight).tolist() == [[
            -1, zero_to, 1
        ]]
        quantizer = ActBi(zero_to=zero_to, offset=None)
        quantizer(x)
        assert quantizer.quantize_int(x).values.tolist() == [-1, zero_to, 1]
