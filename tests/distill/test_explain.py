import pytest
import torch
from distill.models import batch, build, detection_scope, distill

from mmcompress.distill import DistillLoss
from mmcompress.distill.explain import hints, in_words
from mmcompress.registry import MODELS

x = torch.ones(2, 3)


@MODELS.register_module()
class TinyFaultyLoss(DistillLoss):
    """Raises what it is told to."""

    def forward(self, student, teacher):
        raise self.error


def raised(error, tap='neck', loss='TinyFaultyLoss'):
    spec = dict(type=f'mmcompress.{loss}', student=tap, teacher=tap)
    model = build(distill(losses=dict(loss_x=spec)))
    model.distill.loss_x.error = error
    with detection_scope(), pytest.raises(Exception) as info:
        model(**batch(model), mode='loss')
    return info.value


@pytest.mark.parametrize('error', [
    ValueError('shapes differ'), KeyError('boxes'), IndexError(),
    torch.OutOfMemoryError('CUDA out of memory')
])  # yapf: disable
def test_an_error_names_the_loss_and_its_taps(error):
    text = str(error.args[0]) if error.args else 'IndexError'
    found = raised(error)
    assert found is error
    assert "losses.loss_x (TinyFaultyLoss, student 'neck', teacher 'neck'): " \
        f'{text}' in str(found)


def test_an_error_without_a_text_is_the_cause():
    error = OSError(5, 'broken')
    found = raised(error)
    assert type(found) is RuntimeError and found.__cause__ is error
    assert 'losses.loss_x' in str(found)


def test_a_head_of_nested_lists():
    error = raised(None, 'bbox_head', 'CWDLoss')
    assert "The student's tap 'bbox_head' yields ((2x3x8x8, 2x3x4x4" in str(
        error)
    assert "if the loss wants a tensor, tap 'bbox_head[0]'" in str(error)
    assert isinstance(error, TypeError)


@pytest.mark.parametrize('tap, value, instead', [
    ('a', ([x], [x]), "'a[0]'"),
    ('a', [(x, x), (x, x)], "'a[0]'"),
    ('a', dict(p=x, q=x), "\"a['p']\" or \"a['q']\""),
    ('a', [dict(p=x)], "\"a['p']\""),
    ('a[0]', [[x]], 'a module in it'),
    ('a', None, 'a module in it'),
    ('a', x, None),
    ('a', (x, x), None),
    (['a', 'b'], [x, (x, x)], "'b[0]'"),
    (['a', 'b'], [x, x], None),
    (dict(p='a'), dict(p=[x]), None),
])
def test_suggests_an_index_or_a_key(tap, value, instead):
    found = hints(dict(student=None, teacher=tap), dict(teacher=value))
    assert len(found) == (instead is not None)
    assert not found or found[0].endswith(f'tap {instead}') or (instead
                                                                in found[0])


def test_a_list_of_taps_of_tuples_is_named_with_an_index():
    sentence, = hints(dict(student=['a', 'b']), dict(student=[x, (x, )]))
    assert "tap 'b' yields (2x3)" in sentence and "tap 'b[0]'" in sentence


def test_words_do_not_hide_other_arguments():
    error = in_words(ValueError('a', 1), 'here', ['Do this'])
    assert error.args == ('here: a. Do this', 1)
