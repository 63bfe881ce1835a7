import pytest
import torch
from hooks.toy_runner import ToyModel, toy_runner
from mmengine.model import BaseModule
from torch import nn


class Encoder(BaseModule):
    """Weights that a checkpoint may have or lack."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.stem = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)


class Model(ToyModel):

    def __init__(self, **init_cfg):
        super().__init__()
        self.encoder = Encoder(dict(type='Pretrained', **init_cfg))


def train(folder, weights, prefix=None, loaded=None, **hook):
    """Train with an encoder that starts from these weights."""
    torch.save(weights, folder / 'weights.pth')
    init_cfg = dict(checkpoint=str(folder / 'weights.pth'), prefix=prefix)
    runner = toy_runner(
        folder,
        hooks=[dict(type='mmcompress.CheckPretrainedHook', **hook)],
        model=dict(type=Model, **init_cfg),
        load_from=loaded,
        val=False)
    runner.train()
    return runner.model.encoder


def weights_of(prefix='', **changes):
    """An encoder's, apart from its head; those that are None are left out."""
    state = Encoder(None).state_dict()
    state = {k: v for k, v in state.items() if not k.startswith('head')}
    state.update(changes)
    return {prefix + k: v for k, v in state.items() if v is not None}


def test_heads_may_be_new_and_more_may_be_there(tmp_path):
    weights = weights_of(**{'norm.num_batches_tracked': None})
    weights['decoder.weight'] = torch.zeros(3)
    encoder = train(tmp_path, weights)
    assert torch.equal(encoder.stem.weight, weights['stem.weight'])
    assert not encoder._load_state_dict_pre_hooks
    assert not encoder._load_state_dict_post_hooks


def test_what_is_missing_stops_the_run_and_is_named(tmp_path):
    weights = weights_of(**{
        'stem.weight': None,
        'trunk.weight': torch.ones(1)
    })
    expected = (
        r'^encoder \(Encoder\).*weights\.pth, which its init_cfg names: '
        r'missing in it: stem\.weight; of another shape: nothing; '
        r'not of this model: trunk\.weight\. Correct')
    with pytest.raises(RuntimeError, match=expected):
        train(tmp_path, weights)


def test_another_shape_stops_the_run(tmp_path):
    weights = weights_of(**{'stem.weight': torch.zeros(5, 3)})
    with pytest.raises(
            RuntimeError,
            match=r'another shape: size mismatch for stem\.weight: .*5, 3.*4, '
            r'3[^;]*; not of this model: nothing'):
        train(tmp_path, weights)


def test_a_checkpoint_that_overwrites_it_does_not_make_up_for_it(tmp_path):
    whole = Model(checkpoint='').state_dict()
    torch.save(dict(state_dict=whole, meta={}), tmp_path / 'whole.pth')
    with pytest.raises(RuntimeError, match='stem.weight'):
        train(
            tmp_path,
            weights_of(**{'stem.weight': None}),
            loaded=str(tmp_path / 'whole.pth'))


def test_new_says_what_may_be_missing(tmp_path):
    weights = weights_of(**{'stem.weight': None})
    train(tmp_path, weights, new=[r'^stem\.weight', r'^head\.'])
    with pytest.raises(RuntimeError, match='head.weight, head.bias; of'):
        train(tmp_path, weights, new=['stem'])


def test_a_part_is_found_by_its_prefix(tmp_path):
    weights = weights_of('backbone.')
    encoder = train(tmp_path, weights, prefix='backbone.')
    assert torch.equal(encoder.stem.weight, weights['backbone.stem.weight'])
    with pytest.raises(RuntimeError, match='stem.weight.* and 3 more; of'):
        train(tmp_path, weights)
