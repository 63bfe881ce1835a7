"""Every distillation config: its models exist and its losses fit them.

Models are built and run on torch's meta device, which computes shapes but no
numbers: full-size networks cost next to nothing.
"""
import importlib.util
import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import yaml
from meta_device import on_meta
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

import mmcompress.compat  # noqa: F401
from mmcompress.cache import CACHE_SCHEME
from mmcompress.distill.builder import build_slot
from mmcompress.distill.inherit import inherit
from mmcompress.distill.taps import Taps
from mmcompress.distill.teacher_source import read_config
from mmcompress.model.config import build_model
from mmcompress.model.inputs import default_size
from mmcompress.quantization import bypassed

CONFIGS = Path(__file__).parents[2] / 'configs'
# whose models want other inputs than an image; they have tests of their own
ELSEWHERE = ('dwpose', 'g2sd', 'ida_det', 'ie_kd', 'lsq', 'q_detr')
# students and teachers of all large configs
pytestmark = [pytest.mark.slow, pytest.mark.gate]

FILES = [
    file for file in sorted(CONFIGS.glob('[!_]*/*.py'))
    if re.search('(teacher|losses)=', file.read_text())
    and file.parent.name not in ELSEWHERE and 'mini' not in file.stem
]

# of the official configs: temp, alpha, beta, gamma, lambda; levels
ONE_STAGE = (0.5, 1e-3, 5e-4, 5e-4, 5e-6), 5
TWO_STAGE = (0.5, 5e-5, 2.5e-5, 5e-5, 5e-7), 4
REPPOINTS = (0.5, 1.6e-3, 8e-4, 8e-4, 8e-6), 5
FCOS = (0.8, 1.6e-3, 8e-4, 8e-4, 8e-6), 5
# and how many of the student's tensors outside of the backbone are inherited
FGD = {
    'retinanet_r50_x101_fpn_2x': (*ONE_STAGE, 36, 36),
    'retinanet_r101_x101_fpn_2x': (*ONE_STAGE, 36, 36),
    'retinanet_r50_r101_fpn_2x': (*ONE_STAGE, 36, 36),
    'gfl_r50_r101_fpn_1x': (*ONE_STAGE, 50, 50),
    'faster-rcnn_r50_cascade-x101_fpn_2x': (*TWO_STAGE, 30, 0),
    'faster-rcnn_r101_cascade-x101_fpn_2x': (*TWO_STAGE, 30, 0),
    'faster-rcnn_r50_r101_fpn_2x': (*TWO_STAGE, 30, 30),
    'mask-rcnn_r50_cascade-x101_fpn_2x': (*TWO_STAGE, 42, 0),
    'mask-rcnn_r50_r101_fpn_2x': (*TWO_STAGE, 42, 42),
    'reppoints_r50_x101-dconv_fpn-gn_2x': (*REPPOINTS, 53, 53),
    'reppoints_r101_x101-dconv_fpn-gn_2x': (*REPPOINTS, 53, 53),
    'reppoints_r50_r101_fpn-gn_2x': (*REPPOINTS, 53, 53),
    'fcos_r50_r101_fpn_ms-2x': (*FCOS, 59, 51),
}

# of MGD's: alpha, lambda, levels; maximal norm of the gradient; how many
# tensors are inherited
MGD = {
    'retinanet_r50_x101_fpn_2x_coco': (2e-5, 0.65, 5, 35, 36),
    'retinanet_r50_x101-3x_fpn_2x_coco': (2e-5, 0.65, 5, 35, 36),
    'reppoints_r50_x101-dconv_fpn-gn_2x_coco': (2e-5, 0.65, 5, 35, 53),
    'solo_r50_r101_fpn_1x_coco': (2e-5, 0.65, 4, 35, 70),
    'faster-rcnn_r50_cascade-x101_fpn_2x_coco': (5e-7, 0.45, 4, 35, 0),
    'mask-rcnn_r50_cascade-x101_fpn_2x_coco': (5e-7, 0.45, 4, 35, 0),
    'pspnet_r18_r101_40k_cityscapes-512x512': (2e-5, 0.75, 1, None, 0),
    'deeplabv3_r18_pspnet-r101_40k_cityscapes-512x512':
    (2e-5, 0.75, 1, None, 0),
    'resnet18_resnet34_in1k': (7e-5, 0.15, 1, None, 0),
    'mobilenet-v1_resnet50_in1k': (7e-5, 0.15, 1, 5, 0),
    'resnet18_resnet34_cifar100': (1.2e-3, 0.15, 1, None, 0),
    # not the authors'
    'gfl_r50_r101_fpn_1x_coco': (2e-5, 0.65, 5, 35, 50),
}

load = lru_cache(maxsize=None)(Config.fromfile)


class Pair:
    """A config, its student and its teacher, without weights."""

    def __init__(self, file: Path) -> None:
        self.name = file.stem
        self.folder = file.parent
        self.cfg = deepcopy(load(file))
        model = self.cfg.model
        student = Config(dict(model=model.student))
        if 'data_preprocessor' in self.cfg:
            student.data_preprocessor = self.cfg.data_preprocessor
        configs = dict(student=student)
        if 'teacher' in model:
            configs['teacher'] = read_config(model.teacher.cfg,
                                             str(file.parent))
        for cfg in configs.values():
            # deformable convolutions don't know the meta device; same shapes
            whole = cfg.model.get('model', cfg.model)
            for key in ('dcn', 'stage_with_dcn'):
                whole.backbone.pop(key, None)
        scope = DefaultScope.overwrite_default_scope(self.cfg.default_scope)
        with on_meta(), scope:
            self.models = {
                # .to: some buffers come from numpy
                side: build_model(cfg).eval().to('meta')
                for side, cfg in configs.items()
            }
        self.slots = [
            build_slot(name, cfg) for name, cfg in model.losses.items()
        ]

    @torch.no_grad()
    def see(self, side: str, slot) -> object:
        """Noise of the shapes that a loss sees of one of the models."""
        model = self.models[side]
        taps = Taps(dict(it=slot.taps[side]), model, side)
        neck_only = all(path.startswith('neck') for path in taps.paths)
        # large enough for a coarsest level of more than one position
        size = (192, 256)
        if self.cfg.default_scope == 'mmpretrain':
            size = default_size(model, 'mmpretrain')
        with taps.record(model) as calls, on_meta(), bypassed(model):
            (model.extract_feat if neck_only else model)(
                torch.ones(2, 3, *size))
        return noise_like(taps.select(calls)['it'])


def noise_like(seen):
    if isinstance(seen, torch.Tensor):
        return torch.randn(seen.shape)
    if isinstance(seen, dict):
        return {key: noise_like(value) for key, value in seen.items()}
    return [noise_like(level) for level in seen]


@pytest.fixture(scope='module', params=FILES, ids=lambda file: file.stem)
def pair(request):
    return Pair(request.param)


def only(method):
    files = [file for file in FILES if file.parent.name == method]
    return pytest.mark.parametrize(
        'pair', files, indirect=True, ids=lambda file: file.stem)


def checkpoints_of(cfg: str) -> set[str]:
    """What a library's metafile publishes for ``'library::config.py'``.

    Of a config of ours, what it publishes for the config that that inherits.
    """
    if '::' not in cfg:
        cfg = re.search(r"_base_ = '([^']*)'", Path(cfg).read_text())[1]
    library, path = cfg.split('::')
    package = Path(importlib.util.find_spec(library).origin).parent
    folder = package / '.mim' / 'configs' / Path(path).parent
    models = [
        model for file in folder.glob('*.y*ml')
        for model in yaml.safe_load(file.read_text())['Models']
    ]
    return {m.get('Weights') for m in models if m['Config'].endswith(path)}


def test_there_are_all_official_pairs_of_fgd():
    names = {f'fgd_{name}_coco' for name in FGD}
    assert names == {f.stem for f in FILES if f.parent.name == 'fgd'}


def labelled(library):
    """An image's labels."""
    if library == 'mmpretrain':
        from mmpretrain.structures import DataSample
        return DataSample().set_gt_label(3)
    return DetDataSample(
        metainfo=dict(img_shape=(180, 250), batch_input_shape=(192, 256)),
        gt_instances=InstanceData(bboxes=torch.tensor([[5., 5., 40., 50.]])))


def test_losses_fit_what_they_tap(pair):
    samples = [labelled(pair.cfg.default_scope)] * 2
    for slot in pair.slots:
        seen = {
            side: pair.see(side, slot)
            for side, tap in slot.taps.items() if tap
        }
        models = {f'{side}_model': m for side, m in pair.models.items()}
        result = slot.run(
            dict(
                teacher_model=None, data_samples=samples, progress=0.0, **seen)
            | models)
        values = result.get(slot.name, list(result.values()))
        if isinstance(seen['student'], list) and not slot.loss.takes_levels:
            assert len(values) == len(seen['student'])
        elif isinstance(values, torch.Tensor):
            values = [values]
        assert all(value.isfinite() and value > 0 for value in values)


@only('fgd')
def test_fgd_has_the_official_weights(pair):
    weights, num_levels, *_ = FGD[pair.name[4:-5]]
    loss = pair.cfg.model.losses.loss_fgd
    keys = ('temp', 'alpha_fgd', 'beta_fgd', 'gamma_fgd', 'lambda_fgd')
    assert tuple(loss[key] for key in keys) == weights
    assert loss.num_levels == num_levels
    assert loss.get('mask_ref', 'img_shape') == 'img_shape'
    assert pair.cfg.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)


@only('fgd')
def test_fgd_inherits_what_the_official_configs_inherit(pair):
    num_tensors = sum(not key.startswith(('backbone.', 'distill.'))
                      for key in pair.models['student'].state_dict())
    assert (num_tensors, num_inherited(pair)) == FGD[pair.name[4:-5]][2:]


def num_inherited(pair):
    """How many tensors are copied from the teacher."""
    parts = pair.cfg.model.get('init_student', [])
    return sum(row[2] for row in inherit(*pair.models.values(), parts))


@only('mgd')
def test_mgd_is_set_up_as_officially(pair):
    *weights, num_levels, max_norm, copied = MGD[pair.name[4:]]
    loss = pair.cfg.model.losses.loss_mgd
    assert [loss.alpha_mgd, loss.lambda_mgd] == weights
    assert loss.get('num_levels', 1) == num_levels
    classifies = pair.cfg.default_scope == 'mmpretrain'
    assert loss.get('mask_type') == ('channel' if classifies else None)
    clip_grad = pair.cfg.optim_wrapper.get('clip_grad') or {}
    assert clip_grad.get('max_norm') == max_norm
    assert num_inherited(pair) == copied


def test_there_are_all_official_pairs_of_mgd():
    names = {f.stem[4:] for f in FILES if f.parent.name == 'mgd'}
    assert names == MGD.keys()


@pytest.mark.parametrize(
    'metafile',
    sorted({file.parent / 'metafile.yml'
            for file in FILES}),
    ids=lambda file: file.parent.name)
def test_losses_have_the_official_settings(metafile):
    content = yaml.safe_load(metafile.read_text('utf-8'))
    of_all = {
        c['Name']: c['Metadata'].get('Official Settings', {})
        for c in content['Collections']
    }
    unseen = {(name, loss) for name in of_all for loss in of_all[name]}
    files = {file.stem: file for file in FILES}
    for model in content['Models']:
        name = model['In Collection']
        # mim merges both, so they have two names
        own = model['Metadata'].get('Own Settings', {})
        losses = load(files[model['Name']]).model.get(
            'losses', {}) if model['Name'] in files else {}
        assert own.keys() <= losses.keys()
        for key in losses.keys() & of_all[name].keys():
            unseen.discard((name, key))
            expected = {**of_all[name][key], **own.get(key, {})}
            cfg = losses[key]
            built = vars(build_slot(key, cfg).loss)
            assert {k: cfg.get(k, built.get(k)) for k in expected} == expected
    assert not unseen


@pytest.mark.parametrize('name', [
    'nkd_deit-tiny_deit3-small_in1k', 'nkd_deit-base_deit3-large_in1k',
    'uskd_swin-tiny_in1k', 'vitkd_nkd_deit-small_deit3-base_in1k'
])
def test_transformers_keep_their_recipe(name):
    (file, ) = [file for file in FILES if file.stem == name]
    cfg = load(file)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    model = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    with on_meta(), DefaultScope.overwrite_default_scope('mmpretrain'):
        augments = MODELS.build(model).data_preprocessor.batch_augments
    # before both models see the images
    names = [type(augment).__name__ for augment in augments.augments]
    assert names == ['Mixup', 'CutMix']


def test_deit_base_keeps_its_average_of_weights():
    files = [file for file in FILES if '_deit-base_' in file.stem]
    assert len(files) == 3
    for file in files:
        hooks = load(file).custom_hooks
        assert any(hook.type == 'EMAHook' for hook in hooks)


def test_segmentation_trains_on_crops_of_512():
    files = list((CONFIGS / 'mgd').glob('*cityscapes*.py'))
    assert len(files) == 4
    for file in files:
        cfg = load(file)
        model = cfg.model.get('student', cfg.model)
        assert model.data_preprocessor.size == (512, 512)
        pipeline = cfg.train_dataloader.dataset.pipeline
        crops = [t.crop_size for t in pipeline if t.type == 'RandomCrop']
        assert crops == [(512, 512)]
        assert cfg.train_cfg.max_iters == 40000


def test_cifar100_has_the_schedule_of_the_authors():
    files = list(CONFIGS.glob('*/*cifar100.py'))
    assert len(files) >= 4
    for file in files:
        cfg = load(file)
        assert cfg.optim_wrapper.optimizer.weight_decay == 5e-4
        assert cfg.param_scheduler.milestones == [60, 120, 160]
        assert cfg.param_scheduler.gamma == 0.2
        assert cfg.train_dataloader.batch_size == 16


def test_the_teacher_is_published_for_its_config(pair):
    teacher = pair.cfg.model.get('teacher')
    if teacher is None:
        return
    if teacher.checkpoint.startswith(CACHE_SCHEME):
        # the config that is to be trained keeps it under this name
        cfg = read_config(teacher.cfg, str(pair.folder))
        assert cfg.default_hooks.keep == dict(
            type='mmcompress.CacheTeacherHook',
            name=teacher.checkpoint.removeprefix(CACHE_SCHEME))
        return
    assert teacher.checkpoint in checkpoints_of(teacher.cfg)


def test_the_readme_names_every_config(pair):
    readme = (pair.folder / 'README.md').read_text()
    assert f'({pair.name}.py)' in readme
