"""A pruned file computes what the masked model does, or isn't written."""
import importlib.util
import json
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from mmcompress.analysis.subject import build_subject
from mmcompress.builder import Compress
from mmcompress.deploy.verify.model import VerificationError
from mmcompress.model.config import build_model, read_config
from mmcompress.pruning import find_units, prune_file, verify
from mmcompress.pruning.masks import masked_units
from mmcompress.pruning.one_shot import (choose_counts, choose_share,
                                         with_copies)
from mmcompress.pruning.pruned_config import _hooks

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location(
    'prune', ROOT / 'tools' / 'deploy' / 'prune.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@DATASETS.register_module(force=True)
class _Noise(Dataset):
    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 4

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        image = torch.randint(
            256, (3, 16, 16), generator=generator, dtype=torch.uint8)
        return dict(
            inputs=image, data_samples=DataSample().set_gt_label(i % 3))


@METRICS.register_module(force=True)
class _Sum(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results += [s['pred_score'] for s in data_samples]

    def compute_metrics(self, results):
        return dict(score=sum(results).sum().item())


_DENSE = '''
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=3, mean=[127.] * 3, std=[60.] * 3),
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=12, num_layers=2, num_heads=3,
                  feedforward_channels=24),
        img_size=16,
        patch_size=8),
    head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=12))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='_Noise'))
test_dataloader = train_dataloader
test_evaluator = dict(type='_Sum')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.005))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1),
    mmcompress=dict(type='mmcompress.StandardHooks'))
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'))
'''
_SEARCH = '''
_base_ = './dense.py'
model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MaskUnits')])
default_hooks = dict(
    upop=dict(type='mmcompress.UPopHook', p=0.5, interval=1))
custom_hooks = [dict(type='EMAHook')]
'''
_UNITS = {
    'backbone.layers.0.attn': 2,
    'backbone.layers.0.ffn': 5,
    'backbone.layers.1.attn': 1,
    'backbone.layers.1.ffn': 24
}


def _random(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Configs and checkpoints of a dense model, and of a search."""
    folder = tmp_path_factory.mktemp('prune')
    for name, text in dict(dense=_DENSE, search=_SEARCH).items():
        (folder / f'{name}.py').write_text(text)
        model = build_model(read_config(str(folder / f'{name}.py')))
        torch.manual_seed(0)
        _random(model)
        for units, mask in masked_units(model):
            # the first ones go
            mask.value[:units.num - _UNITS[units.name]] = 0
        meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')), epoch=3)
        torch.save(
            dict(meta=meta, state_dict=model.state_dict()),
            folder / f'{name}.pth')
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.chdir(made)
    yield made
    for path in made.glob('out*'):
        path.unlink()


def _prune(monkeypatch, name, *arguments, out='out.pth'):
    monkeypatch.setattr('sys.argv', [
        'prune.py', f'{name}.py', f'{name}.pth', out, '--batches', '1',
        *arguments
    ])
    tool.main()
    return read_config('out.py')


@torch.no_grad()
def _outputs(config, checkpoint):
    cfg = read_config(config)
    model = build_subject(cfg, checkpoint)
    images = torch.stack([_Noise()[i]['inputs'].float() for i in range(4)])
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return model(images / 60)


def test_what_a_search_left(folder, monkeypatch, logged):
    cfg = _prune(monkeypatch, 'search')
    assert cfg.model.steps == [dict(type='mmcompress.KeepUnits', units=_UNITS)]
    # mmengine's own hooks can be left out, others only be stopped
    assert cfg.default_hooks.upop.p is None
    assert [hook['type'] for hook in cfg.custom_hooks] == ['EMAHook']
    assert cfg.load_from == str(folder / 'out.pth')
    torch.testing.assert_close(
        _outputs('out.py', 'out.pth'),
        _outputs('search.py', 'search.pth'),
        rtol=1e-5,
        atol=1e-6)
    file = torch.load('out.pth')
    assert file['meta']['kept_units']['backbone.layers.0.attn'] == [2, 3]
    assert file['meta']['dataset_meta'] == dict(classes=('a', 'b', 'c'))
    text = '\n'.join(logged)
    assert 'parameters, M' in text and 'Verified on 1 batches' in text


@pytest.mark.slow
def test_it_trains_on_and_the_dense_config_refuses_both(folder, monkeypatch):
    cfg = _prune(monkeypatch, 'search')
    cfg.work_dir = str(folder / 'work')
    cfg.train_dataloader.persistent_workers = False
    Runner.from_cfg(cfg).train()
    dense = Config.fromfile('dense.py')
    for path in ('out.pth', 'work/epoch_1.pth'):
        dense.update(load_from=str(folder / path), work_dir=cfg.work_dir)
        with pytest.raises(RuntimeError, match='is of a pruned model'):
            Runner.from_cfg(dense).test()
        with pytest.raises(RuntimeError, match='shapes differ'):
            build_subject(read_config('dense.py'), path)
        cfg.load_from = dense.load_from
        assert Runner.from_cfg(cfg).test()['score'] == pytest.approx(4)
    # with the average of its weights
    cfg.update(load_from=None, resume=True)
    cfg.train_cfg.max_epochs = 2
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.epoch == 2


_HOOKED = '''
_base_ = './{base}.py'
default_hooks = dict(
    keep=dict(type='mmcompress.CacheTeacherHook', name='dense'))
'''


@pytest.mark.parametrize('base, arguments', [('dense', ['--ratio', '0.5']),
                                             ('search', [])])
def test_training_it_neither_searches_nor_keeps_it_as_the_dense_model(
        folder, monkeypatch, base, arguments):
    Path('out_hooked.py').write_text(_HOOKED.format(base=base))
    Path('out_hooked.pth').write_bytes(Path(f'{base}.pth').read_bytes())
    wanted = read_config('out_hooked.py').default_hooks
    wanted.keep.name = None
    if 'upop' in wanted:
        wanted.upop.p = None
    cfg = _prune(monkeypatch, 'out_hooked', *arguments)
    assert cfg.default_hooks == wanted


def test_a_search_among_the_custom_hooks_is_left_out():
    hooks = [dict(type='mmcompress.UPopHook', p=0.5), dict(type='EMAHook')]
    text = _hooks(Config(dict(custom_hooks=hooks)))
    assert eval(text.partition('custom_hooks = ')[2]) == hooks[1:]


def test_at_once(folder, monkeypatch):
    units = _prune(monkeypatch, 'dense', '--ratio', '0.5').model.steps[0].units
    dense = build_subject(read_config('dense.py'), 'dense.pth')
    left, whole = (
        sum(
            num.get(group.name, group.num) * group.parameters_per_unit(dense)
            for group in find_units(dense)) for num in (units, {}))
    # a unit of attention has 3 * 51 parameters of 2400
    assert left / whole == pytest.approx(0.5, abs=0.05)
    assert len(set(units.values())) > 2


@pytest.mark.parametrize('kind', ['pairs', 'json', 'config'])
def test_numbers_of_units(folder, monkeypatch, kind):
    few = {'backbone.layers.1.ffn': 5, 'backbone.layers.0.attn': 3}
    given = [f'{name}={num}' for name, num in few.items()]
    if kind == 'json':
        given = ['out.json']
        Path('out.json').write_text(json.dumps(few))
    if kind == 'config':
        _prune(monkeypatch, 'dense', '--units', *given)
        Path('out.py').rename('out_before.py')
        given = ['out_before.py']
    cfg = _prune(monkeypatch, 'dense', '--units', *given)
    assert cfg.model.steps[0].units == few


def test_rounded_and_pruned_again(folder, monkeypatch):
    cfg = _prune(monkeypatch, 'search', '--round-to', '4')
    nums = {**_UNITS, 'backbone.layers.0.ffn': 8}
    nums['backbone.layers.0.attn'] = nums['backbone.layers.1.attn'] = 4
    assert cfg.model.steps[0].units == nums
    kept = torch.load('out.pth')['meta']['kept_units']
    # those that the search keeps are among them
    assert set(range(19, 24)) < set(kept['backbone.layers.0.ffn'])
    for end in ('py', 'pth'):
        Path(f'out.{end}').rename(f'out_first.{end}')
    cfg = _prune(monkeypatch, 'out_first', '--units',
                 'backbone.layers.0.ffn=3')
    assert cfg.model.steps == [
        dict(
            type='mmcompress.KeepUnits',
            units={
                **nums, 'backbone.layers.0.ffn': 3
            })
    ]
    assert _outputs('out.py', 'out.pth').isfinite().all()


def test_options_are_in_the_config(folder, monkeypatch):
    cfg = _prune(monkeypatch, 'dense', '--units', 'backbone.layers.0.ffn=3',
                 '--cfg-options', 'test_dataloader.batch_size=4')
    assert cfg.test_dataloader.batch_size == 4
    assert _outputs('out.py', 'out.pth').isfinite().all()


@pytest.mark.parametrize('name, arguments, message', [
    ('dense', [], 'give --ratio or --units'),
    ('dense', ['--ratio', '1.5'], 'between 0 and 1, got 1.5'),
    ('dense', ['--ratio', '.5', '--units', 'a=1'], 'not both'),
    ('dense', ['--units', 'a:1'], 'neither KEY=NUM'),
    ('dense', ['--units', 'dense.py'], 'has no step mmcompress.KeepUnits'),
    ('dense', ['--units', 'backbone.layers.0.ffn=25'], 'has 24 units'),
    ('dense', ['--units', 'backbone.layers.0.mlp=5'], 'backbone.layers.0.ffn'),
    ('dense', ['--ratio', '.5', '--round-to', '0'], 'round_to'),
    ('search', ['--ratio', '.5'], 'of a search.*prune the dense model'),
    ('search', ['--units', 'backbone.layers.0.ffn=5'], 'is of a search'),
    ('search', ['--channels', '.5'], 'is of a search'),
    ('dense', ['--ratio', '.5', '--batches', '0'], 'at least one batch'),
])
def test_what_is_refused(folder, monkeypatch, name, arguments, message):
    with pytest.raises((ValueError, KeyError), match=message):
        _prune(monkeypatch, name, *arguments)
    assert not list(folder.glob('out*'))


@pytest.mark.parametrize('value, message', [(0.5, 'not at its end'),
                                            (1., 'no mask that is 0')])
def test_a_search_that_is_not_at_its_end(folder, monkeypatch, value, message):
    file = torch.load('search.pth')
    for key, mask in file['state_dict'].items():
        if key.endswith('unit_mask.value'):
            mask.fill_(1)
            mask[0] = value
    torch.save(file, 'out_search.pth')
    Path('out_search.py').write_text(_SEARCH)
    with pytest.raises(ValueError, match=message):
        _prune(monkeypatch, 'out_search')


def test_nothing_is_written_that_computes_something_else(folder, monkeypatch):
    true_cut = prune_file.cut

    def wrong_cut(model, kept):
        true_cut(model, kept)
        # as official code loses biases
        nn.init.normal_(model.backbone.layers[0].attn.qkv.bias)

    monkeypatch.setattr(prune_file, 'cut', wrong_cut)
    with pytest.raises(VerificationError, match='differ.*Nothing was written'):
        _prune(monkeypatch, 'search')
    assert not list(folder.glob('out*'))


def test_modules_decide_where_choices_hang_on_roundings(
        folder, monkeypatch, logged):
    monkeypatch.setattr(verify, 'end_to_end_difference',
                        lambda *models: dict(decoder=0.01))
    _prune(monkeypatch, 'search')
    assert '0.01 of the norm of decoder' in '\n'.join(logged)
    assert 'backbone.layers.' in logged[-1]
    assert _outputs('out.py', 'out.pth').isfinite().all()


_LAZY = '''
from mmengine.config import read_base
from mmcompress.builder import Compress
from mmcompress.hooks import CacheTeacherHook, UPopHook
from mmcompress.pruning import MaskUnits
with read_base():
    from .out_base import *
dense, model = model, dict(
    type=Compress, model=model, steps=[dict(type=MaskUnits)])
default_hooks.update(keep=dict(type=CacheTeacherHook, name='lazy'))
custom_hooks = [dict(type=UPopHook, p=0.5, interval=1)]
'''


def test_a_config_in_pure_python(folder, monkeypatch):
    Path('out_base.py').write_text(_DENSE)
    Path('out_lazy.py').write_text(_LAZY)
    Path('out_lazy.pth').write_bytes(Path('search.pth').read_bytes())
    cfg = _prune(monkeypatch, 'out_lazy')
    assert cfg.model.steps == [dict(type='mmcompress.KeepUnits', units=_UNITS)]
    assert cfg.default_hooks.keep.name is None
    assert cfg.custom_hooks == []
    assert _outputs('out.py', 'out.pth').isfinite().all()


class _Retrieval(nn.Module):
    """A model with moving averages, as BLIP's for retrieval is."""

    def __init__(self):
        super().__init__()
        self.text = nn.MultiheadAttention(12, 3)
        self.text_m = nn.MultiheadAttention(12, 3)
        self.towers = nn.ModuleDict(dict(a=nn.MultiheadAttention(12, 3)))
        self.towers_m = nn.ModuleDict(dict(a=nn.MultiheadAttention(12, 3)))
        self.model_pairs = [[self.text, self.text_m],
                            [self.towers, self.towers_m]]


def test_averages_keep_the_same_units():
    model = _Retrieval()
    kept = with_copies(model, choose_share(model, 0.5))
    assert list(kept) == ['text', 'towers.a', 'text_m', 'towers_m.a']
    assert torch.equal(kept['text'], kept['text_m'])
    assert torch.equal(kept['towers.a'], kept['towers_m.a'])


def test_the_largest_stay():
    model = nn.MultiheadAttention(6, 2)
    with torch.no_grad():
        # channel 1 of both heads
        model.in_proj_weight[1::3] *= 10
    assert choose_counts(model, {'': 1})[''].tolist() == [1]
    first = choose_counts(model, {'': 2}, first={'': torch.tensor([2])})
    assert first[''].tolist() == [1, 2]


def test_parameters_and_operations_of_deit_small():
    """UPop's table: 22.0 M and 4.6 G; of p = .3 15.7 M and 3.2 G."""
    from mmcompress.analysis.complexity import complexity, total
    model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch='deit-small',
            img_size=224),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead',
            num_classes=1000,
            in_channels=384))
    units = {f'backbone.layers.{i}.attn': 45 for i in range(12)}
    units |= {f'backbone.layers.{i}.ffn': 1075 for i in range(12)}
    sizes = []
    with torch.device('meta'):
        batch = dict(inputs=torch.rand(1, 3, 224, 224))
        for steps in ([], [dict(type='KeepUnits', units=units)]):
            cost = total(complexity(Compress(model, steps), batch))
            sizes.append((cost.params / 1e6, cost.macs / 1e9))
    assert sizes[0] == pytest.approx((22.05, 4.60), abs=0.005)
    assert sizes[1] == pytest.approx((15.69, 3.24), abs=0.005)


def _rename(first, second):
    for end in ('py', 'pth'):
        Path(f'{first}.{end}').rename(f'{second}.{end}')


def test_channels_and_units_one_after_the_other(folder, monkeypatch):
    """Hidden units are both; each run counts what the last one left."""
    _prune(monkeypatch, 'dense', '--channels', '0.5', '--uniform')
    _rename('out', 'out_channels')
    cfg = _prune(monkeypatch, 'out_channels', '--ratio', '0.5')
    left = cfg.model.steps[1].units
    _rename('out', 'out_units')
    cfg = _prune(monkeypatch, 'out_units', '--channels', '0.3', '--uniform')
    assert [step.type.rpartition('.')[2] for step in cfg.model.steps
            ] == ['KeepChannels', 'KeepUnits', 'KeepChannels']
    model = build_subject(cfg, 'out.pth')
    hidden = model.backbone.layers[0].ffn.layers[0][0].out_features
    assert hidden == round(0.7 * left['backbone.layers.0.ffn'])
