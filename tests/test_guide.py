"""The configs that the user guide shows are written out and built."""
import math
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

import mmcompress.compat  # noqa: F401
from mmcompress.distill.taps import Taps
from mmcompress.distill.teacher_source import read_config
from mmcompress.model.config import build_model

ROOT = Path(__file__).parents[1]
PAGES = {
    path.stem: path.read_text('utf-8')
    for path in (ROOT / 'docs' / 'user_guide').glob('*.md')
}
GUIDE = PAGES['distill']
SHOWN = dict(shown for page in PAGES.values() for shown in re.findall(
    r'```python\n# my_configs/(\w+)\.py\n(.*?)```', page, re.S))
OTHER_NETWORKS = re.findall(r'\| `(_base_ = .*?)` \|', PAGES['own_data'])
# what the page writes anew, and configs/ has
TRANSLATED = dict(
    from_mmrazor_cwd='cwd/cwd_retinanet_r50_r101_fpn_1x_coco',
    from_fgd='fgd/fgd_retinanet_r50_x101_fpn_2x_coco',
    from_mgd_seg='mgd/mgd_pspnet_r18_r101_40k_cityscapes-512x512',
    from_cls_kd_nkd='nkd/nkd_resnet18_resnet34_in1k',
    from_dwpose_s1='dwpose/dwpose_s1_rtmpose-m_rtmpose-l_270e_coco-ubody-'
    '256x192',
    from_dwpose_s2='dwpose/dwpose_s2_rtmpose-m_60e_coco-ubody-256x192')
# how many hooks of their own the bases have
HOOKS = dict(bccd_fgd_r18_r50=0, bccd_fgd_weigh=0, yolox_tiny_s=3)

DATA = Path(os.environ.get('MMCOMPRESS_DATA', '')).resolve()
needs_data = pytest.mark.skipif(
    'MMCOMPRESS_DATA' not in os.environ,
    reason='MMCOMPRESS_DATA names no folder with real images, see '
    'CONTRIBUTING.md')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The guide's ``my_configs``, beside our configs."""
    folder = tmp_path_factory.mktemp('guide')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    (folder / 'my_configs').mkdir()
    for name, text in SHOWN.items():
        (folder / 'my_configs' / f'{name}.py').write_text(text)
    return folder / 'my_configs'


@pytest.mark.parametrize('name', SHOWN)
def test_shown_config_builds_and_taps_what_exists(folder, name):
    cfg = Config.fromfile(folder / f'{name}.py')
    scope = cfg.default_scope
    # mmpretrain's backbones read numbers from tensors, meta has none
    device = 'cpu' if scope == 'mmpretrain' else 'meta'
    with torch.device(device), DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
        assert hasattr(model, 'distill') == ('losses' in cfg.model)
        if 'teacher' not in cfg.model:
            return
        teacher = build_model(read_config(cfg.model.teacher.cfg, str(folder)))
    taps = {k: loss.get('teacher') for k, loss in cfg.model.losses.items()}
    Taps({k: tap for k, tap in taps.items() if tap}, teacher, 'teacher')


@pytest.mark.parametrize('name', HOOKS)
def test_shown_config_has_our_hooks_and_those_of_its_base(folder, name):
    cfg = Config.fromfile(folder / f'{name}.py')
    assert cfg.default_hooks.mmcompress.type == 'mmcompress.StandardHooks'
    assert 'checkpoint' in cfg.default_hooks
    assert len(cfg.get('custom_hooks', [])) == HOOKS[name]


def test_two_bases_with_hooks_are_refused_as_the_guide_says(folder):
    (folder / 'twice.py').write_text(
        "_base_ = ['mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', "
        "'../configs/_base_/runtime.py']\n")
    with pytest.raises(KeyError) as error:
        Config.fromfile(folder / 'twice.py')
    assert error.value.args[0] in GUIDE


@pytest.mark.parametrize('name', TRANSLATED)
def test_translation_is_the_config_of_ours(folder, name):
    shown = Config.fromfile(folder / f'{name}.py')
    ours = Config.fromfile(ROOT / 'configs' / f'{TRANSLATED[name]}.py')
    # whose URL the page leaves out
    shown.model.teacher.checkpoint = ours.model.teacher.checkpoint
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper',
                'param_scheduler', 'custom_hooks', 'custom_imports'):
        assert shown[key] == ours[key], key


def test_the_students_weights_are_taken_out(tmp_path, monkeypatch):
    code, = re.findall(r'```python\n# my_tools/student_of.py, .*?\n(.*?)```',
                       PAGES['coming_from'], re.S)
    theirs, ours = str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth')
    monkeypatch.setattr('sys.argv', ['student_of.py', theirs, ours])
    weight = torch.ones(2)
    for prefix in ('student', 'architecture'):
        state = {
            f'{prefix}.neck.weight': weight,
            'teacher.neck.weight': -weight
        }
        torch.save(dict(state_dict=state), theirs)
        exec(compile(code, 'student_of.py', 'exec'), {})
        taken = torch.load(ours)['state_dict']
        assert taken.keys() == {'neck.weight'}
        assert taken['neck.weight'].equal(weight)


def test_shows_the_distillation_config_in_few_lines():
    lines = SHOWN['bccd_fgd_r18_r50'].split('\n\n', 1)[1].strip().split('\n')
    assert len(lines) <= 16


@pytest.mark.parametrize('line', OTHER_NETWORKS)
def test_own_data_fits_a_network_of_the_library(folder, line):
    name = dict(
        mmpretrain='things_student',
        mmseg='scenes_student')[re.search(r"'(\w+)::", line)[1]]
    text = SHOWN[name].split('\n', 1)[1]
    (folder / 'other.py').write_text(f'{line}\n{text}')
    cfg = Config.fromfile(folder / 'other.py')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        MODELS.build(cfg.model)
    shown = Config.fromfile(folder / f'{name}.py')
    for loader in ('train_dataloader', 'val_dataloader'):
        assert cfg[loader].dataset == shown[loader].dataset


def trained(cfg, changes):
    """What a short training logged."""
    loaders = dict(num_workers=0, persistent_workers=False)
    cfg.merge_from_dict(
        dict(
            work_dir='work_dir',
            experiment_name=cfg.filename,
            log_level='ERROR',
            train_cfg=dict(max_epochs=1),
            default_hooks=dict(logger=dict(interval=1), checkpoint=None),
            train_dataloader=loaders,
            val_dataloader=loaders))
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    for key in scalars:
        if 'loss' in key:
            history = scalars[key].data[0]
            assert len(history) == 2 and all(map(math.isfinite, history)), key
    return scalars


@needs_data
@pytest.mark.parametrize('name, metric', [
    pytest.param('bccd_fgd_r18_r50', 'pascal_voc/mAP', marks=pytest.mark.slow),
    pytest.param(
        'street_distill',
        'coco/bbox_mAP',
        marks=[pytest.mark.slow, pytest.mark.gate]),
])
def test_shown_config_trains_on_real_images(folder, name, metric, monkeypatch,
                                            tmp_path):
    monkeypatch.chdir(tmp_path)
    Path('data').symlink_to(DATA)
    small = {'scale': (160, 120)}
    scalars = trained(
        Config.fromfile(folder / f'{name}.py'),
        dict(
            model=dict(
                student=dict(
                    backbone=dict(init_cfg=None),
                    # an untrained head is sure of nothing
                    test_cfg=dict(score_thr=0.0)),
                teacher=dict(checkpoint=None, allow_random=True)),
            train_dataloader=dict(
                dataset=dict(indices=4, pipeline={'3': small})),
            val_dataloader=dict(
                dataset=dict(indices=2, pipeline={'1': small}))))
    losses = {'train/loss_cls', 'train/loss_bbox', 'train/loss_fgd'}
    assert {f'val/{metric}', *losses} <= scalars.keys()


PEOPLE = {
    f'people/{split}{end}': f'mmpose/coco{file}'
    for split in ('train', 'val')
    for end, file in (('', ''), ('.json', '/test_coco.json'))
}
WHOLE_BODY = {
    link: target.replace('coco.json', 'coco_wholebody.json')
    for link, target in PEOPLE.items()
}
# each config of the page that no other one of it inherits: links to data,
# some of what is logged, and what is changed
OWN_DATA = dict(
    things_nkd=({
        'things': 'cifar10_subset'
    }, {'train/loss_nkd.loss_target', 'val/accuracy/top1'}, {}),
    things_uskd=({
        'things': 'cifar10_subset'
    }, {'train/loss_uskd.loss_target', 'val/accuracy/top1'}, {}),
    things_plain=({
        'things': 'cifar10_subset'
    }, {'train/loss', 'val/accuracy/top5'}, {}),
    small_coco=(
        {
            'street': 'coco128'
        },
        {'train/loss_bbox', 'val/coco/bbox_mAP'},
        # an untrained head is sure of nothing
        dict(model=dict(test_cfg=dict(score_thr=0.0)))),
    small_voc=({
        'cells': 'bccd'
    }, {'train/loss_bbox', 'val/pascal_voc/mAP'}, {}),
    street_rtmdet=({
        'street': 'coco128'
    }, {'train/loss_bbox', 'val/coco/bbox_mAP'}, {}),
    scenes_mgd=({
        'scenes': 'coco128'
    }, {'train/loss_mgd', 'val/mIoU'}, {}),
    people_student=(WHOLE_BODY, {'train/loss_kpt',
                                 'val/coco-wholebody/AP'}, {}),
    people_rtmpose=(PEOPLE, {'train/loss_kpt', 'val/coco/AP'}, {}))
# a second and more each: for the gate
SLOW = ('things_uskd', 'things_plain', 'small_coco', 'small_voc',
        'street_rtmdet', 'people_rtmpose')


def link_data(links):
    for link, target in links.items():
        link = Path('data', link)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(DATA / target)


def test_every_config_on_own_data_is_tried():
    page = PAGES['own_data']
    shown = re.findall(r'^# my_configs/(\w+)\.py$', page, re.M)
    last = {name for name in shown if f"'./{name}.py'" not in page}
    assert last <= OWN_DATA.keys() <= set(shown)


@needs_data
@pytest.mark.parametrize('name', [
    pytest.param(
        name, marks=[pytest.mark.slow, pytest.mark.gate] * (name in SLOW))
    for name in OWN_DATA
])
def test_own_data_trains_on_real_images(folder, name, monkeypatch, tmp_path):
    links, keys, changes = OWN_DATA[name]
    monkeypatch.chdir(tmp_path)
    # formatting 200 names of classes takes half a minute
    monkeypatch.setattr(Config, 'pretty_text', '')
    link_data(links)
    cfg = Config.fromfile(folder / f'{name}.py')
    if 'teacher' in cfg.model:
        cfg.model.teacher.update(checkpoint=None, allow_random=True)
    few = dict(batch_size=2, dataset=dict(indices=4))
    scalars = trained(
        cfg, dict(train_dataloader=few, val_dataloader=few, **changes))
    assert keys <= scalars.keys()


@needs_data
def test_sizes_of_own_boxes(folder, monkeypatch, tmp_path, capsys):
    """The page's rule, by the page's own script, chooses its anchors."""
    code, = re.findall(r'```python\n# my_tools/box_sizes.py .*?\n(.*?)```',
                       PAGES['own_data'], re.S)
    monkeypatch.chdir(tmp_path)
    link_data(dict(cells='bccd'))
    text = f"_base_ = {str(folder / 'small_voc.py')!r}\n"
    text += 'train_dataloader = dict(dataset=dict(indices=20))\n'
    Path('few.py').write_text(text)
    monkeypatch.setattr('sys.argv', ['box_sizes.py', 'few.py'])
    exec(compile(code, 'box_sizes.py', 'exec'), {})
    sizes = [
        int(size) for size in re.findall(r'up to (\d+) pixels',
                                         capsys.readouterr().out)
    ]
    assert len(sizes) == 3 and sizes == sorted(sizes)
    assert 12 <= sizes[0] < 32
