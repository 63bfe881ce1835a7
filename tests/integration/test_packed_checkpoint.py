"""From a trained checkpoint to mm's own tools on the packed one."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from deploy.networks import as_if_trained
from integration.small_runs import ROOT, ida_det, write_config
from mmengine.config import Config
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet')


def run_tool(*arguments):
    """Run a tool; returns its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=dict(
            os.environ,
            OMP_NUM_THREADS='1',
            PYTHONPATH=f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    return done.returncode, done.stdout


def metrics(config, checkpoint, work_dir, *arguments):
    status, text = run_tool(ROOT / 'tools' / 'test.py', config, checkpoint,
                            '--work-dir', work_dir, *arguments)
    assert status == 0, text[-3000:]
    newest = max(work_dir.glob('*/*.json'), key=lambda p: p.stat().st_mtime)
    found = json.loads(newest.read_text())
    return {k: v for k, v in found.items() if k.startswith('coco/')}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A small 1-bit detector, as if IDa-Det had trained it, and packed."""
    from mmcompress.deploy.file.convert import pack_file
    from mmcompress.model.config import build_model
    folder = tmp_path_factory.mktemp('packed')
    config = write_config(folder / 'trained.py', ida_det())
    cfg = Config.fromfile(config)
    torch.manual_seed(0)
    model = as_if_trained(build_model(cfg))
    # scores that are far apart, so that there are detections
    model.roi_head.bbox_head.fc_cls.weight.data.normal_()
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    torch.save(
        dict(meta=meta, state_dict=model.state_dict()), folder / 'trained.pth')
    pack_file(
        str(config), str(folder / 'trained.pth'), str(folder / 'packed.pth'))
    return folder


def test_one_bit_per_weight_is_on_disk(folder):
    state = torch.load(folder / 'packed.pth')['state_dict']
    trained = torch.load(folder / 'trained.pth')['state_dict']
    bits = sum(t.numel() for k, t in state.items() if k.endswith('_bits'))
    scales = [k.removesuffix('scale') for k in trained if k.endswith('.scale')]
    weights = sum(trained[f'{k}weight'].numel() for k in scales)
    assert 8 * bits == weights
    assert not any('teacher' in k or 'distill' in k for k in state)


def test_the_config_stands_alone(folder):
    text = (folder / 'packed.py').read_text()
    for word in ('Distill', 'teacher', '_base_', 'optim_wrapper',
                 'train_dataloader', 'load_from'):
        assert word not in text
    Config.fromfile(folder / 'packed.py')


def test_init_detector_runs_it(folder):
    from mmdet.apis import inference_detector, init_detector
    model = init_detector(
        str(folder / 'packed.py'), str(folder / 'packed.pth'), device='cpu')
    assert type(model).__name__ == 'FasterRCNN'
    assert model.dataset_meta['classes'] == tuple('0123456789')
    found = inference_detector(model, np.zeros((64, 64, 3), np.uint8))
    assert len(found.pred_instances) > 0


def test_the_inferencer_runs_it(folder):
    from mmdet.apis import DetInferencer
    inferencer = DetInferencer(
        str(folder / 'packed.py'),
        str(folder / 'packed.pth'),
        device='cpu',
        show_progress=False)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    found = inferencer(image, return_datasamples=False)['predictions'][0]
    assert found['scores']


def test_nothing_is_written_when_layers_differ(folder, monkeypatch):
    from mmcompress.deploy.file import convert
    from mmcompress.deploy.fold import folding
    from mmcompress.deploy.verify import VerificationError

    def wrong(rule, bn):
        return rule.scale * 1.01, rule.scale * 0

    monkeypatch.setattr(folding, 'fold_affine', wrong)
    out = folder / 'wrong.pth'
    with pytest.raises(VerificationError, match=r'backbone\.layer1\.0\.conv'):
        convert.pack_file(
            str(folder / 'trained.py'), str(folder / 'trained.pth'), str(out))
    assert not out.exists() and not out.with_suffix('.py').exists()


def test_the_trained_checkpoint_must_fit(folder):
    from mmcompress.deploy.file.convert import pack_file
    torch.save(dict(state_dict={}), folder / 'empty.pth')
    with pytest.raises(RuntimeError, match='are missing'):
        pack_file(
            str(folder / 'trained.py'), str(folder / 'empty.pth'),
            str(folder / 'none.pth'))


@pytest.mark.slow
def test_mm_tools_give_the_folded_twins_result(folder):
    config, checkpoint = folder / 'packed.py', folder / 'packed.pth'
    packed = metrics(config, checkpoint, folder / 'a')
    folded = metrics(config, checkpoint, folder / 'b', '--cfg-options',
                     'model.packed_twin=folded')
    assert packed == folded


@pytest.mark.slow
def test_the_tool_packs_in_half_precision(folder):
    out = folder / 'half.pth'
    status, text = run_tool(ROOT / 'tools' / 'deploy' / 'pack.py',
                            folder / 'trained.py', folder / 'trained.pth', out,
                            '--leftovers', 'float16', '--batches', '1')
    assert status == 0, text[-3000:]
    for words in ('takes the image', 'shortcut that changes the shape',
                  'real-valued in training', 'OPs = BOPs / 64 + FLOPs',
                  'bit for bit'):
        assert words in text
    assert out.stat().st_size < (folder / 'packed.pth').stat().st_size
    metrics(out.with_suffix('.py'), out, folder / 'c')


@pytest.mark.slow
def test_a_truncated_file_stops_the_tool(folder):
    content = (folder / 'packed.pth').read_bytes()
    (folder / 'cut.pth').write_bytes(content[:len(content) // 2])
    status, text = run_tool(ROOT / 'tools' / 'test.py', folder / 'packed.py',
                            folder / 'cut.pth', '--work-dir', folder / 'd')
    assert status != 0
    assert 'cut.pth is damaged or incomplete' in text


def test_a_classifier_runs_in_the_inferencer(tmp_path):
    """Packed as a config of mmpretrain says, ``steps`` included."""
    pytest.importorskip('mmpretrain')
    from mmpretrain import ImageClassificationInferencer

    from mmcompress.deploy import pack
    from mmcompress.deploy.file.checkpoint import write_packed
    from mmcompress.deploy.file.config import packed_config
    from mmcompress.model.config import build_model
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=64))
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            data_preprocessor=dict(
                mean=[127.0] * 3, std=[50.0] * 3, to_rgb=True),
            model=dict(
                type='mmcompress.Compress',
                model=model,
                steps=[
                    dict(
                        type='ReplaceConvs',
                        conv_cfg=dict(type='mmcompress.ReActConv2d'),
                        include=['backbone.layer*.conv*'])
                ]),
            test_dataloader=dict(
                dataset=dict(pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize', scale=32),
                    dict(type='PackInputs')
                ]))))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        trained = as_if_trained(build_model(cfg))
        _, packed = pack(trained)
    meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')))
    out = tmp_path / 'packed.pth'
    write_packed(packed, packed_config(cfg), meta, out, [])
    # the tests above leave mmdet's as the current one
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        inferencer = ImageClassificationInferencer(
            str(out.with_suffix('.py')), str(out), device='cpu')
        image = np.random.default_rng(0).integers(0, 255, (40, 40, 3),
                                                  np.uint8)
        found = inferencer(image)[0]
    assert found['pred_class'] in 'abc'
    assert len(found['pred_scores']) == 3
