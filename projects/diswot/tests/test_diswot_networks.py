import copy
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from diswot import (Candidate, Distances, ResNetSpace, Scoring, StageResNet,
                    StageResNetCIFAR)
from diswot.batch import draw_batch
from diswot.detection import StageDetResNet
from diswot.evaluate import Cost, Evaluator
from diswot.observe import observe
from diswot.records import Record, Records, conditions
from diswot.report import write_config
from diswot.search import Search, main, prepare, search
from diswot.settings import settings_of
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.backbones import CifarResNet
from mmcompress.model.config import build_model, read_config
from mmcompress.model.inputs import made_up_batch

CONFIGS = Path(__file__).parents[1] / 'configs'
# random weights do for what these tests ask
UNTRAINED = {
    'model.teacher.checkpoint': None,
    'model.teacher.allow_random': True
}
FEW = {
    f'{split}_dataloader.dataset.settings': dict(num_train=10, num_val=10)
    for split in ('train', 'val', 'test')
}
QUICK = {
    **FEW, 'diswot.batch_size': 4,
    'diswot.num_inits': 1,
    'diswot.evaluations': 4,
    'diswot.population': 2,
    'diswot.space.stage_blocks': [[1, 2], [1], [1, 2]]
}


@pytest.fixture(autouse=True, scope='module')
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMCOMPRESS_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


@cache
def _read(name):
    return Config.fromfile(CONFIGS / name)


def config_of(name, options=None):
    """A config with some keys changed; reading it takes a while."""
    cfg = copy.deepcopy(_read(name))
    cfg.merge_from_dict(options or {})
    return cfg


def classifier(**backbone):
    cfg = config_of('diswot_depth_mini.py')
    backbone.setdefault('stage_blocks', (1, 1, 1))
    cfg.merge_from_dict(dict(model=dict(student=dict(backbone=backbone))))
    return build_model(cfg), cfg


def take_a_step(cfg, size):
    """Losses of one training step of a config, on made-up images."""
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict(UNTRAINED)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    scope = cfg.default_scope
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model).train()
        batch = made_up_batch(model, scope, size, 4)
        losses = model(**batch, mode='loss')
    model.parse_losses(losses)[0].backward()
    weight = model.backbone.layer1[0].conv1.weight
    assert weight.grad.isfinite().all() and weight.grad.any()
    return losses


def test_stages_are_those_of_the_libraries_own_nets():
    own = StageResNetCIFAR((9, 9, 9), base_channels=16, stem_channels=16)
    shapes = [{
        k: v.shape
        for k, v in net.state_dict().items()
    } for net in (own, CifarResNet(56))]
    assert shapes[0] == shapes[1]
    large = StageResNet((3, 4, 6, 3), 'Bottleneck', base_channels=4)
    assert own.depth == 56 and large.depth == 50
    with pytest.raises(ValueError, match='each at least 1'):
        StageResNet((2, 0))
    with pytest.raises(ValueError, match='none of BasicBlock'):
        StageDetResNet((2, 2), 'Basic')


def test_a_look_leaves_the_model_as_it_was():
    model, cfg = classifier()
    model.eval()
    model.backbone.train()
    modes = [m.training for m in model.modules()]
    state = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    observe(model, cfg, torch.randn(4, 3, 16, 16, generator=torch.Generator()),
            torch.tensor([0, 1, 2, 3]))
    assert torch.equal(torch.rand(3), expected)
    assert [m.training for m in model.modules()] == modes
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    for module in model.modules():
        assert not module._forward_hooks and not module._backward_hooks
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('init', ['normal', 'config'])
def test_a_look_depends_on_its_seed_and_on_nothing_else(init):
    model, cfg = classifier()
    look = partial(observe, model, cfg, init=init)
    images = torch.randn(4, 3, 16, 16)
    labels = torch.tensor([0, 1, 2, 3])
    first = look(images, labels, seed=1)
    model.eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        again = look(images, labels, seed=1)
    other = look(images, labels, seed=2)
    assert again.features[0].dtype == torch.float32
    assert torch.equal(first.features[0], again.features[0])
    assert torch.equal(first.gradient, again.gradient)
    assert not torch.equal(first.features[0], other.features[0])


@pytest.mark.parametrize('init', ['normal', 'config'])
def test_frozen_statistics_are_those_of_the_batch_all_the_same(init):
    model, cfg = classifier()
    frozen, _ = classifier(norm_eval=True)
    images = torch.randn(4, 3, 16, 16)
    seen = [
        observe(m, cfg, images, init=init).features for m in (model, frozen)
    ]
    torch.testing.assert_close(seen[0], seen[1])


def test_a_model_that_was_initialised_is_initialised_again():
    model, cfg = classifier()
    images = torch.randn(4, 3, 16, 16)
    first = observe(model, cfg, images, init='config').features[0]
    model.init_weights()
    again = observe(model, cfg, images, init='config').features[0]
    assert torch.equal(first, again)
    assert model.backbone.is_init


def test_the_depth_shows_with_the_configs_own_initialisation():
    """Residual branches would be multiplied by 0."""
    images = torch.randn(4, 3, 16, 16)
    model, cfg = classifier(stage_blocks=(1, 1, 2))
    seen = observe(model, cfg, images, init='config', seed=1).features[0]
    branch = model.backbone.layer3[1].conv2
    with torch.no_grad():
        branch.register_forward_hook(lambda *args: args[-1] * 0)
    without = observe(model, cfg, images, init='config', seed=1).features[0]
    assert not torch.allclose(seen, without)


def test_features_that_are_not_finite_are_an_error_in_words():
    model, cfg = classifier()
    images = torch.full((2, 3, 16, 16), float('inf'))
    with pytest.raises(FloatingPointError, match="init='config'"):
        observe(model, cfg, images)


def test_a_batch_is_drawn_from_the_training_data():
    cfg = config_of('diswot_depth_mini.py', FEW)
    model = build_model(cfg)
    batch = draw_batch('train', cfg, model, 6, 0)
    assert batch.inputs(model).shape == (6, 3, 32, 32)
    assert batch.labels.shape == (6, )
    again, other = (
        draw_batch('train', cfg, model, 6, seed).fingerprint(model)
        for seed in (0, 1))
    assert again == batch.fingerprint(model) != other
    with pytest.raises(ValueError, match='12 images.* gives 10'):
        draw_batch('train', cfg, model, 12, 0)
    with pytest.raises(ValueError, match='at least 2'):
        draw_batch('train', cfg, model, 1, 0)
    cfg.train_dataloader.drop_last = True
    with pytest.raises(ValueError, match='12 images.* gives 0'):
        draw_batch('train', cfg, model, 12, 0)


def test_a_teacher_of_other_classes_is_compared_by_relations():
    cfg = config_of('diswot_depth_mini.py', FEW)
    space = ResNetSpace([[1, 2], [1], [1]], [8], ['Bottleneck'])
    teacher = read_config(cfg.model.teacher.cfg)
    # no label of the batch is one of its classes
    teacher.model.head.num_classes = 1
    evaluator = Evaluator(
        cfg, space, teacher.to_dict(), batch_size=4, num_inits=1)
    found, = evaluator.distances(next(iter(space)))
    assert found.relation > 0 and found.semantic is None


def test_a_teacher_without_a_preprocessor_sees_what_the_student_sees():
    cfg = config_of('diswot_depth_mini.py', FEW)
    space = ResNetSpace([[1, 2], [1], [1]], [8], ['Bottleneck'])
    teacher = read_config(cfg.model.teacher.cfg)
    without = {**teacher.model.to_dict(), 'data_preprocessor': None}
    seen = []
    for given in (teacher.to_dict(), without):
        evaluator = Evaluator(cfg, space, given, batch_size=4, num_inits=1)
        seen.append(evaluator.distances(next(iter(space))))
    assert seen[0] == seen[1]


def stored_in(folder):
    stored = json.loads((folder / 'scores.json').read_text())
    for entry in stored['evaluations']:
        del entry['seconds']
    return stored


def test_a_search_goes_on_and_ends_as_if_it_had_not_stopped(tmp_path, capsys):
    config = 'diswot_depth_mini.py'
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    path = search(str(CONFIGS / config), whole, QUICK)
    fewer = {**QUICK, 'diswot.evaluations': 3}
    running = prepare(config_of(config, fewer), halves)
    running.run()
    assert len(stored_in(halves)['evaluations']) == 3
    capsys.readouterr()
    evaluator = running.evaluator
    records = Records(halves / 'scores.json', conditions(evaluator), True)
    Search(evaluator, records, replace(running.settings, evaluations=4)).run()
    assert capsys.readouterr().out.count('| known |') == 3
    assert stored_in(whole) == stored_in(halves)
    # what was written: the best score, and no other criterion
    stored = stored_in(whole)['evaluations']
    scores = Scoring(combine='rank_sum').scores(
        [Distances(**e['distances']) for e in stored])
    best = stored[scores.index(max(scores))]['candidate']
    chosen = Config.fromfile(path)
    backbone = chosen.model.student.backbone
    assert {key: backbone[key] for key in best} == best
    assert '<svg' in (whole / 'search.svg').read_text()
    assert 'most MACs' in (whole / 'table.txt').read_text()
    assert 'loss_kd' in take_a_step(chosen, (32, 32))


def test_results_of_other_conditions_are_refused(tmp_path):
    path = tmp_path / 'scores.json'
    record = Record(
        Candidate('Bottleneck', 8, (4, 1, 2)), Cost(1000, 2000),
        Distances(0.1), [Distances(0.1)], 0.0)
    Records(path, dict(batch_size=4, seed=0), False).add(record)
    again = Records(path, dict(batch_size=4, seed=0), True)
    assert again.records == {record.candidate: record}
    with pytest.raises(FileExistsError, match='--resume'):
        Records(path, dict(batch_size=4, seed=0), False)
    with pytest.raises(ValueError, match='batch_size: 4 there, 5 now'):
        Records(path, dict(batch_size=5, seed=0), True)
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match='can not be read'):
        Records(path, dict(batch_size=4, seed=0), True)


def test_conditions_are_all_that_distances_depend_on():
    cfg = config_of('diswot_depth_mini.py', FEW)
    space = ResNetSpace([[1, 2], [1], [1]], [8], ['Bottleneck'])
    first = conditions(Evaluator(cfg, space, data='noise', batch_size=4))
    changes = dict(batch_size=3, seed=1, num_inits=2, init='config')
    cfg.model.student.backbone.stem_channels = 4
    pipeline = cfg.val_dataloader.dataset.pipeline
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline = [
            *pipeline[:-1],
            dict(type='Resize', scale=(40, 24)), pipeline[-1]
        ]
    teacher = cfg.model.student.to_dict()
    other = conditions(Evaluator(cfg, space, teacher, data='train', **changes))
    assert {key: other[key] for key in changes} == changes
    assert all(first[key] != other[key] for key in first)


def test_the_written_config_inherits_the_searched_one(tmp_path):
    config = CONFIGS / 'diswot_depth_mini.py'
    cfg = config_of(config.name)
    candidate = Candidate('Bottleneck', 8, (4, 1, 2))
    record = Record(candidate, Cost(1000, 2000), Distances(0.1), [], 0.0)
    space = ResNetSpace(**{
        k: v
        for k, v in cfg.diswot.space.items() if k != 'type'
    })
    options = space.options(candidate, cfg.model.student)
    measured = dict(batch_size=4, data='train', seed=0, num_inits=1)
    path = write_config(cfg, str(config), False,
                        dict(model=dict(student=options)), record, measured,
                        tmp_path)
    assert len(path.read_text().splitlines()) < 15
    written = Config.fromfile(path)
    assert written.model.student.backbone.stage_blocks == [4, 1, 2]
    assert written.model.losses == cfg.model.losses


def test_a_detector_is_searched_by_relations_and_trains(tmp_path):
    options = {
        **QUICK, 'diswot.data': 'noise',
        'diswot.batch_size': 2,
        'diswot.algorithm': 'random',
        'diswot.evaluations': 2,
        'diswot.space.stage_blocks': [[1, 2], [1], [1], [1]]
    }
    cfg = config_of('diswot_retinanet_mini.py', options)
    running = prepare(cfg, tmp_path)
    chosen = running.run()
    for entry in stored_in(tmp_path)['evaluations']:
        assert entry['distances']['semantic'] is None
        assert entry['distances']['relation'] > 0
        assert entry['cost']['params'] <= 5.2e5
    cfg = running.evaluator.config_of(chosen.candidate)
    assert take_a_step(cfg, (64, 64))['loss_fgd']


def test_the_two_distances_train_a_student():
    cfg = config_of('diswot_distances_mini.py')
    losses = take_a_step(cfg, (32, 32))
    assert losses['loss_relation'] > 0 and losses['loss_semantic'] > 0


def test_undefined_distances_and_limits_are_errors_in_words(tmp_path):
    cfg = config_of('diswot_resnet_mini.py', {
        **QUICK, 'diswot.w_semantic': 1.0
    })
    running = prepare(cfg, tmp_path)
    with pytest.raises(ValueError, match='w_semantic=0'):
        running.run()
    running.settings = replace(running.settings, max_flops=10)
    running.evaluator.space = ResNetSpace([[1, 2], [1], [1]], [4])
    with pytest.raises(RuntimeError, match='no candidate is within'):
        running.run()


def test_options_are_checked():
    for options, message in ((dict(batches=3), 'unknown keys batches'),
                             (dict(algorithm='grid'), 'evolution, random'),
                             (dict(combine='max'), 'sum, rank_sum'),
                             (dict(max_flops=-1), 'must be positive'),
                             (dict(max_flops='1M'), "max_flops='1M'"),
                             (dict(batch_size=2.5),
                              'batch_size=2.5'), (dict(w_relation='a'),
                                                  "w_relation='a'")):
        cfg = config_of('diswot_depth_mini.py')
        cfg.diswot.update(options)
        with pytest.raises(ValueError, match=message):
            settings_of(cfg)
    with pytest.raises(ValueError, match='has no `diswot'):
        settings_of(config_of('diswot_distances_mini.py'))
    cfg = config_of('diswot_depth_mini.py')
    cfg.diswot.space.width = [8]
    with pytest.raises(ValueError, match="diswot.space: .*'width'"):
        prepare(cfg, Path('unused'))


@pytest.mark.parametrize(
    'name', ['diswot_s1_cifar100.py', 'diswot_s1_teacher_cifar100.py'])
def test_full_configs_build(name):
    model = build_model(config_of(name))
    assert model.head.fc.weight.shape == (100, 64)


def test_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['--help'])
    assert ended.value.code == 0
    assert 'diswot.max_flops' in capsys.readouterr().out
    config = str(CONFIGS / 'diswot_distances_mini.py')
    with pytest.raises(SystemExit, match='error: .*has no `diswot'):
        main([config, '--work-dir', str(tmp_path)])
    with pytest.raises(SystemExit, match='error: .*no_such.py'):
        main(['no_such.py', '--work-dir', str(tmp_path)])
