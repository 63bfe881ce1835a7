"""Every distillation config: its models exist and its losses fit them.

Where a model allows it, it is built and run on torch's meta device, which
computes shapes but no numbers: full-size networks cost next to nothing.
"""
import importlib.util
from pathlib import Path

import pytest
import torch
import yaml
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

import mmcompress.compat  # noqa: F401
from mmcompress.distill.builder import build_slot
from mmcompress.distill.inherit import inherit
from mmcompress.distill.taps import Taps
from mmcompress.distill.teacher import build_model, read_config

CONFIGS = Path(__file__).parents[2] / 'configs'
FILES = [
    file for method in ('fgd', 'cwd', 'kd', 'fitnets')
    for file in sorted((CONFIGS / method).glob('*.py'))
    if 'mmcompress.Distill' in file.read_text() and 'mini' not in file.stem
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


class Pair:
    """A config, its student and its teacher, without weights."""

    def __init__(self, file: Path) -> None:
        self.name = file.stem
        self.cfg = Config.fromfile(file)
        model = self.cfg.model
        student = Config(dict(model=model.student))
        if 'data_preprocessor' in self.cfg:
            student.data_preprocessor = self.cfg.data_preprocessor
        teacher = read_config(model.teacher.cfg, str(file.parent))
        # deformable convolutions don't know the meta device; same shapes
        for key in ('dcn', 'stage_with_dcn'):
            teacher.model.backbone.pop(key, None)
        # mmpretrain's constructors read numbers out of tensors
        library = self.cfg.default_scope
        self.device = torch.device('cpu' if library ==
                                   'mmpretrain' else 'meta')
        scope = DefaultScope.overwrite_default_scope(library)
        with self.device, scope:
            self.models = dict(
                student=build_model(student).eval(),
                teacher=build_model(teacher).eval())
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
        images = torch.ones(2, 3, 192, 256, device=self.device)
        with taps.record(model) as calls:
            (model.extract_feat if neck_only else model)(images)
        seen = taps.select(calls)['it']
        if isinstance(seen, torch.Tensor):
            return torch.randn(seen.shape)
        return [torch.randn(level.shape) for level in seen]


@pytest.fixture(scope='module', params=FILES, ids=lambda file: file.stem)
def pair(request):
    return Pair(request.param)


only_fgd = pytest.mark.parametrize(
    'pair', [file for file in FILES if file.parent.name == 'fgd'],
    indirect=True,
    ids=lambda file: file.stem)


def checkpoints_of(cfg: str) -> set[str]:
    """What a library's metafile publishes for ``'library::config.py'``."""
    library, path = cfg.split('::')
    package = Path(importlib.util.find_spec(library).origin).parent
    folder = package / '.mim' / 'configs' / Path(path).parent
    models = [
        model for file in folder.glob('metafile.y*ml')
        for model in yaml.safe_load(file.read_text())['Models']
    ]
    return {m.get('Weights') for m in models if m['Config'].endswith(path)}


def test_there_are_all_official_pairs_of_fgd():
    names = {f'fgd_{name}_coco' for name in FGD}
    assert names == {f.stem for f in FILES if f.parent.name == 'fgd'}


def test_losses_fit_what_they_tap(pair):
    sample = DetDataSample(
        metainfo=dict(img_shape=(180, 250), batch_input_shape=(192, 256)),
        gt_instances=InstanceData(bboxes=torch.tensor([[5., 5., 40., 50.]])))
    for slot in pair.slots:
        seen = {side: pair.see(side, slot) for side in pair.models}
        result = slot.run(
            dict(**seen, data_samples=[sample] * 2, progress=0.0))
        values = result[slot.name]
        if isinstance(seen['student'], list):
            assert len(values) == len(seen['student'])
        else:
            values = [values]
        assert all(value.isfinite() and value > 0 for value in values)


@only_fgd
def test_fgd_has_the_official_weights(pair):
    weights, num_levels, *_ = FGD[pair.name[4:-5]]
    loss = pair.cfg.model.losses.loss_fgd
    keys = ('temp', 'alpha_fgd', 'beta_fgd', 'gamma_fgd', 'lambda_fgd')
    assert tuple(loss[key] for key in keys) == weights
    assert loss.num_levels == num_levels
    assert loss.get('mask_ref', 'img_shape') == 'img_shape'
    assert pair.cfg.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)


@only_fgd
def test_fgd_inherits_what_the_official_configs_inherit(pair):
    student, teacher = pair.models.values()
    num_tensors = sum(not key.startswith(('backbone.', 'distill.'))
                      for key in student.state_dict())
    parts = pair.cfg.model.get('init_student', [])
    rows = inherit(student, teacher, parts)
    copied = sum(row[2] for row in rows)
    assert (num_tensors, copied) == FGD[pair.name[4:-5]][2:]


def test_the_teacher_is_published_for_its_config(pair):
    teacher = pair.cfg.model.teacher
    assert teacher.cfg.startswith(f'{pair.cfg.default_scope}::')
    assert teacher.checkpoint in checkpoints_of(teacher.cfg)


def test_the_readme_names_every_config(pair):
    method = pair.name.split('_')[0]
    readme = (CONFIGS / method / 'README.md').read_text()
    assert f'({pair.name}.py)' in readme
