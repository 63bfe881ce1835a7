import pytest
from golden import FOLDER, assert_golden, load

METHODS = ('lsq', 'lsqplus', 'dorefa', 'pact', 'tervit', 'intgemm')
# of methods whose other parts are tested elsewhere
KINDS = dict(
    q_vit=('LinearQ', 'Conv2dQ', 'ActQ', 'Q_Mlp', 'Q_Attention'),
    q_detr=('LinearLSQ', 'Conv2dLSQ', 'ActLSQ', 'DistributionAlignment',
            'QuantMultiheadAttention'),
    bi_vit=('BinaryActivation', 'BiLinearBiReal', 'ActBi', 'LinearBi', 'LSF',
            'QuantizeLinear_w1a1', 'bi_Attention'))


def cases():
    for method in (*METHODS, *KINDS):
        for file in sorted(FOLDER.glob(f'{method}__*.npz')):
            case = load(file)
            if method in METHODS or case.kind in KINDS[method]:
                yield pytest.param(case, id=file.stem)


@pytest.mark.parametrize('case', cases())
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_every_kind_has_a_fixture():
    found = {case.values[0].kind for case in cases()}
    assert found >= {kind for kinds in KINDS.values() for kind in kinds}
