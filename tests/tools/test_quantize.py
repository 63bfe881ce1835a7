import importlib.util
import os
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from distill.models import build, retinanet
from integration.small_runs import write_config
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, DefaultScope
from mmengine.runner import Runner

from mmcompress.analysis.subject import build_subject
from mmcompress.model.config import build_model, read_config
from mmcompress.model.testing import measure
from mmcompress.model.training_images import training_images
from mmcompress.quantization import LSQ
from mmcompress.quantization.calibrated_config import config_text
from mmcompress.quantization.layer_errors import LayerError, stand_out

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'quantize.py'

spec = importlib.util.spec_from_file_location('quantize', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@METRICS.register_module(force=True)
class _MeanScore(BaseMetric):
    """Of all detections; no two models have the same."""

    def process(self, data_batch, data_samples):
        self.results += [s['pred_instances']['scores'] for s in data_samples]

    def compute_metrics(self, results):
        return dict(score=torch.cat(results).mean().item())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A config of a detector on 8 images, and a checkpoint."""
    folder = tmp_path_factory.mktemp('quantize')
    model = retinanet(num_classes=10)
    model['test_cfg']['score_thr'] = 0.0
    write_config(folder / 'small.py', model)
    with open(folder / 'small.py', 'a') as file:
        file.write("optim_wrapper['optimizer']['weight_decay'] = 0.1\n"
                   "test_evaluator = dict(type='_MeanScore')\n")
    torch.save(
        dict(
            meta=dict(epoch=3, dataset_meta=dict(classes=('a', 'b'))),
            state_dict=build(model).state_dict()), folder / 'epoch_3.pth')
    return folder


def run(folder, monkeypatch, *arguments):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        'sys.argv',
        [str(TOOL), 'small.py', 'epoch_3.pth', '--images', '4', *arguments])
    tool.main()


@pytest.fixture(scope='module')
def written(folder):
    """Config and checkpoint of W4A8, and what was printed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(folder, monkeypatch, '--bits', 'w4a8', '--exclude',
            'backbone.layer4', '--work-dir', 'out')
    return folder / 'out' / 'small_w4a8'


def test_the_report_has_metrics_errors_and_size(written):
    report = written.with_suffix('.txt').read_text()
    for text in ('Calibrated on 4 images', 'rounded by GPTQ', '| score ',
                 'neck.fpn_convs.0.conv', 'times smaller', '| 4/8 '):
        assert text in report, text
    assert '| backbone.layer4' not in report


def test_the_written_config_gives_the_same_metric(written):
    cfg = Config.fromfile(written.with_suffix('.py'))
    model = build_subject(cfg, cfg.load_from)
    bits = {
        name: module.bits
        for name, module in model.named_modules() if isinstance(module, LSQ)
    }
    assert bits['backbone.layer1.0.conv1.weight_quant'] == 4
    assert bits['bbox_head.retina_cls.weight_quant'] == 8
    assert not any(name.startswith('backbone.layer4') for name in bits)
    row = next(
        line for line in written.with_suffix('.txt').read_text().splitlines()
        if line.startswith('| score '))
    _, _, before, after, difference, _ = map(str.strip, row.split('|'))
    assert f'{measure(cfg, model)["score"]:.6g}' == after != before


def test_it_trains_on_from_the_checkpoint(written):
    cfg = Config.fromfile(written.with_suffix('.py'))
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.001)
    assert cfg.default_hooks.checkpoint.type == 'CheckpointHook'
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(cfg)
        state = torch.load(cfg.load_from, weights_only=True)
        assert state['meta'] == dict(dataset_meta=dict(classes=('a', 'b')))
        model.load_state_dict(state['state_dict'])
        versions = state['state_dict']._metadata
        assert versions == model.state_dict()._metadata
        wrapper = Runner.build_optim_wrapper(
            type('R', (), dict(model=model)), cfg.optim_wrapper)
        loader = Runner.build_dataloader(cfg.train_dataloader)
        scale = model.backbone.conv1.weight_quant.scale.detach().clone()
        # a decay of scales would be refused
        model.train_step(next(iter(loader)), wrapper)
    new = model.backbone.conv1.weight_quant.scale
    assert not torch.equal(new, scale)
    torch.testing.assert_close(new, scale, rtol=0.2, atol=0)


def test_options_are_carried_over(folder, monkeypatch, capsys):
    run(folder, monkeypatch, '--bits', 'w8a8', '--no-metric', '--include',
        'backbone', '--attention-bits', '32', '--work-dir', 'options',
        '--cfg-options', 'model.bbox_head.num_classes=10')
    assert '| score ' not in capsys.readouterr().out
    cfg = Config.fromfile(folder / 'options' / 'small_w8a8.py')
    step = cfg.model.steps[0]
    assert step.include == ['backbone'] and 'attention' not in step
    # the options are in no other file
    assert (folder / 'options' / 'small_w8a8_float.py').is_file()
    build_model(cfg)


REAL = """
_base_ = {base!r}
folder = {folder!r}
train_dataloader = dict(dataset=dict(
    _delete_=True, type='CustomDataset', data_prefix=folder + '/train',
    pipeline=[dict(type='LoadImageFromFile'),
              dict(type='RandomFlip', prob=0.5),
              dict(type='PackInputs')]))
test_dataloader = dict(dataset=dict(
    _delete_=True, type='CustomDataset', data_prefix=folder + '/test',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
val_dataloader = test_dataloader
"""


@pytest.mark.slow
@pytest.mark.skipif(
    'MMCOMPRESS_DATA' not in os.environ,
    reason='MMCOMPRESS_DATA names no folder with real images')
def test_photographs_sorted_by_class(tmp_path, monkeypatch):
    base = ROOT / 'configs' / 'kd' / 'kd_resnet_mini_student.py'
    folder = os.path.abspath(os.environ['MMCOMPRESS_DATA'])
    (tmp_path / 'small.py').write_text(
        REAL.format(base=str(base), folder=folder + '/cifar10_subset'))
    cfg = Config.fromfile(tmp_path / 'small.py')
    state = build_subject(cfg).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'epoch_3.pth')
    run(tmp_path, monkeypatch, '--images', '20', '--bits', 'w3a8')
    images = [s for b in training_images(cfg, 20) for s in b['data_samples']]
    assert {int(s.gt_label) for s in images} == set(range(10))
    written = tmp_path / 'work_dirs' / 'small_w3a8' / 'small_w3a8'
    assert 'accuracy/top1' in written.with_suffix('.txt').read_text()
    build_subject(
        Config.fromfile(written.with_suffix('.py')),
        str(written.with_suffix('.pth')))


def test_bits_are_two_numbers():
    assert tool.parse_bits('w4a8') == (4, 8)
    for text in ('int8', 'w1a8', 'w8a16', '8'):
        with pytest.raises(tool.argparse.ArgumentTypeError, match='w4a4'):
            tool.parse_bits(text)


def test_a_student_is_taken_out_of_its_distillation():
    base = 'configs/fgd/fgd_retinanet_mini.py'
    text = config_text(read_config(base), 'base.py', 'q', dict(weight=None))
    assert 'model=_base_.model.student,' in text
    plain = Config(dict(model=dict(type='RetinaNet')))
    text = config_text(plain, 'base.py', 'q', dict(weight=dict(bits=4)))
    assert 'model=_base_.model,' in text
    assert 'StandardHooks' in text and 'optim_wrapper' not in text


@pytest.mark.parametrize(
    'own', [(), ('backbone', ), ('backbone', 'backbone.0.weight_quant')],
    ids=['no key', 'as DETR', 'a longer one'])
def test_no_key_of_the_base_lets_scales_decay(own, tmp_path):
    keys = {key: dict(lr_mult=0.1, decay_mult=1.) for key in own}
    (tmp_path / 'base.py').write_text(
        "model = dict(type='X')\n"
        "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1., "
        f'weight_decay=1.), paramwise_cfg=dict(custom_keys={keys}))')
    layers = [
        nn.ModuleDict(dict(weight_quant=nn.Linear(1, 1))) for _ in range(2)
    ]
    model = nn.ModuleDict(
        dict(backbone=nn.Sequential(layers[0]), neck=layers[1]))
    base = read_config(str(tmp_path / 'base.py'))
    scales = [name for name, _ in model.named_parameters()]
    (tmp_path / 'written.py').write_text(
        config_text(base, 'base.py', 'q', dict(weight=None), scales))
    cfg = Config.fromfile(tmp_path / 'written.py')
    groups = Runner.build_optim_wrapper(
        type('R', (), dict(model=model)), cfg.optim_wrapper).param_groups
    decay = {
        parameter: group['weight_decay']
        for group in groups
        for parameter in group['params']
    }
    assert [decay[parameter] for parameter in model.parameters()] == 4 * [0]


def test_metrics_that_one_model_lacks_are_said_to_be_missing():
    table = tool.difference(dict(mAP=0.5, copy='0.5'), {})
    assert '| mAP | 0.5   | none' in table and 'copy' not in table
    assert '-0.2000' in tool.difference(dict(mAP=0.5), dict(mAP=0.3))
    assert 'no detection' in tool.difference({}, {})


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path):
    tool.check_writable(tmp_path / 'a' / 'b')
    assert not list((tmp_path / 'a' / 'b').iterdir())
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='--work-dir: .*file is no folder'):
        tool.check_writable(tmp_path / 'file')


def test_few_layers_stand_out():
    errors = [
        LayerError(name, '', error, name != 'product') for name, error in dict(
            a=9, product=8, b=7, c=1, d=1, e=1, f=1).items()
    ]
    assert stand_out(errors) == ['a', 'b']
    assert stand_out(errors, at_most=1) == ['a']
    assert stand_out([]) == []
