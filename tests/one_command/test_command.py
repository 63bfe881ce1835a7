"""From a plain detector to its files and its table, in one call."""
import json
from pathlib import Path

import pytest
import torch
from distill.models import build, retinanet
from integration.small_runs import write_config
from mmengine.config import Config

from mmcompress import compress
from mmcompress.analysis.subject import build_subject
from mmcompress.lowbit import LowBitModule
from mmcompress.one_command import command, stages
from mmcompress.one_command.options import Options, Refused
from mmcompress.one_command.plan import Plan, make_plan
from mmcompress.one_command.state import State
from mmcompress.one_command.written import (write_model_config,
                                            write_training_config)
from mmcompress.results import read_record


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs of a detector on 8 images and of a wider one, and weights."""
    folder = tmp_path_factory.mktemp('compress')
    for name, channels in (('small', 16), ('big', 32)):
        model = retinanet(num_classes=10, channels=channels)
        model['test_cfg']['score_thr'] = 0.0
        write_config(folder / f'{name}.py', model)
        # as a user's: nothing of ours in it but where the data come from
        text = (folder / f'{name}.py').read_text()
        start, end = text.index('custom_hooks'), text.index('default_scope')
        (folder / f'{name}.py').write_text(text[:start] + text[end:])
        torch.save(
            dict(meta={}, state_dict=build(model).state_dict()),
            folder / f'{name}.pth')
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    """The current directory; nothing is timed for long."""
    monkeypatch.chdir(folder)
    measured = command.measure_forms

    def few_rounds(subjects, **options):
        return measured(subjects, rounds=6, **options)

    monkeypatch.setattr(command, 'measure_forms', few_rounds)
    return folder


@pytest.mark.slow
@pytest.mark.gate
def test_8_bits_without_training(here, monkeypatch, capsys):
    record = compress('small.py', 'small.pth', bits=8, images=8, work_dir='a')
    assert [form.name
            for form in record.forms] == ['float', 'compressed', 'packed']
    packed, first = record.form('packed'), record.forms[0]
    assert packed.bytes < first.bytes and packed.latency.rounds == 6
    assert 'coco/bbox_mAP' in packed.metrics and record.metric
    assert any('packed is what to deploy' in said for said in record.remarks)
    assert read_record('a/record.json') == record
    assert record.data == 'CocoDataset annotations/val.json'
    names = {path.name for path in Path('a').iterdir()}
    assert {
        'small_w8a8.py', 'small_w8a8.pth', 'packed.py', 'packed.pth',
        'picture.png', 'report.md', 'report.html', 'log.txt'
    } <= names
    assert 'treated as: one-stage detector' in capsys.readouterr().out
    # the config is short, and any tool builds it
    cfg = Config.fromfile('a/small_w8a8.py')
    assert len(Path('a/small_w8a8.py').read_text().splitlines()) < 40
    model = build_subject(cfg, 'a/small_w8a8.pth')
    assert any(isinstance(m, LowBitModule) for m in model.modules())

    # the same call goes on: all of it is there
    def never(*args, **kwargs):
        raise AssertionError('done before')

    for name in ('post_training', 'pack_file', 'what_pays'):
        monkeypatch.setattr(stages, name, never)
    again = compress('small.py', 'small.pth', bits=8, images=8, work_dir='a')
    assert again.forms[2].bytes == packed.bytes


def test_a_dry_run_says_and_writes_nothing(here, capsys, monkeypatch):
    counted = stages.complexity

    def in_test_mode(model, batch):
        assert not model.training
        return counted(model, batch)

    monkeypatch.setattr(stages, 'complexity', in_test_mode)
    assert compress(
        'small.py',
        'small.pth',
        bits='w4a8',
        prune=0.25,
        dry_run=True,
        work_dir='dry') is None
    said = capsys.readouterr().out
    assert 'dry/small_p25_w4a8.py would be' in said
    assert "type='mmcompress.KeepChannels'" in said
    assert "_base_ = '../small.py'" in said and 'expected: ' in said
    assert not Path('dry').exists()


@pytest.mark.slow
@pytest.mark.gate
def test_slow_layers_stay_float(here, monkeypatch):
    monkeypatch.setattr(
        stages, 'slower', lambda times:
        (['neck'], ['3x3 convolutions: slower than float; left float']))
    record = compress(
        'small.py',
        'small.pth',
        bits=8,
        images=4,
        metric=False,
        work_dir='slow')
    assert record.remarks[0].endswith('left float')
    model = build_subject(Config.fromfile('slow/small_w8a8.py'))
    low = [n for n, m in model.named_modules() if isinstance(m, LowBitModule)]
    assert low and not any(name.startswith('neck') for name in low)


def test_where_all_layers_are_slow_they_stay_low_bit(here, monkeypatch):
    options = Options('small.py', 'small.pth', bits='8', work_dir='all_slow')
    run = stages.Stages(
        make_plan(options), State(Path('all_slow'), options), print)
    monkeypatch.setattr(stages, 'what_pays', lambda twin, model, *_: model)

    def all_of_them(model):
        low = [
            name for name, module in model.named_modules()
            if isinstance(module, LowBitModule)
        ]
        return low, ['slower']

    monkeypatch.setattr(stages, 'slower', all_of_them)
    run.write_config()
    assert run.state['config'] == []
    assert run.remarks()[0].startswith('All layers are slower')


@pytest.mark.slow
@pytest.mark.gate
def test_pruned_distilled_and_quantized(here, capsys):
    asked = dict(
        distill_from=('big.py', 'big.pth'),
        bits=8,
        prune=0.25,
        images=8,
        epochs=2,
        work_dir='all')
    record = compress('small.py', 'small.pth', **asked)
    names = [form.name for form in record.forms]
    assert names == [
        'float', 'student alone', 'without training', 'compressed', 'packed'
    ]
    assert "as hard as the student's own losses" in capsys.readouterr().out
    assert record.form('packed').parameters < record.forms[0].parameters
    train = next(Path('all').glob('*_train.py')).read_text()
    assert 'mmcompress.Distill' in train or '_alone' in train
    state = json.loads(Path('all/state.json').read_text())['done']
    assert state['train']['checkpoint'].endswith('epoch_2.pth')
    # the result is a plain detector, without anything of the teacher
    weights = torch.load(
        'all/' + next(
            p.name for p in Path('all').glob('small_*_w8a8_*.pth')
            if not p.stem.endswith(('start', 'alone', 'pruned'))),
        weights_only=True)['state_dict']
    assert not any(key.startswith('distill.') for key in weights)


@pytest.mark.slow
@pytest.mark.gate
def test_one_bit_with_training(here):
    record = compress(
        'small.py',
        'small.pth',
        bits=1,
        epochs=1,
        exclude=['bbox_head'],
        keep_slow=True,
        work_dir='one')
    packed = record.form('packed')
    assert packed.bits == 'w1a1' and packed.bytes < record.forms[0].bytes


@pytest.mark.parametrize('asked, said', [
    (dict(bits=1), 'needs training'),
    (dict(tokens=4), '--tokens 4: '),
    (dict(bits=8, exclude=['nothing']), 'selects no module'),
    (dict(distill_from=('no.py', 'big.pth')), '--distill-from: no file'),
    (dict(distill_from=('big.py', 'big.pth'), recipe='x'), 'recipe'),
])
def test_refusals(here, asked, said):
    with pytest.raises(Refused, match=said):
        compress('small.py', 'small.pth', work_dir='refused', **asked)
    assert not Path('refused').exists()


@pytest.mark.parametrize('text, said', [
    ('model = (', 'can not be read: SyntaxError'),
    ("custom_imports = dict(imports=['nowhere'])\nmodel = dict(type='A')",
     'can not be read: ImportError'),
    ("default_scope = 'mmdet'\nmodel = dict(type='Nothing')",
     'can not be built: KeyError: Nothing is not in'),
])
def test_configs_that_can_not_be_built(here, text, said):
    Path('wrong.py').write_text(text)
    with pytest.raises(Refused, match=said):
        compress('wrong.py', 'small.pth', bits=8)


def test_gradients_are_clipped_where_the_config_says_none(here):
    """mmengine merges no dict with a None of a base."""
    Path('none.py').write_text("_base_ = 'small.py'\n"
                               'optim_wrapper = dict(clip_grad=None)')
    plan = make_plan(
        Options('none.py', 'small.pth', bits='1', epochs=1, work_dir='clip'))
    Path('clip').mkdir()
    write_model_config(plan, plan.low_bit.steps)
    cfg = Config.fromfile(write_training_config(plan, 'small.pth', None))
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)


def test_a_file_that_is_no_checkpoint(here):
    with pytest.raises(Refused, match='small.py is no checkpoint that can'):
        compress('small.py', 'small.py', bits=8)


def test_an_export_is_tried_again(here, monkeypatch):
    """What was missing, such as a package, may be there now."""
    options = Options('small.py', 'small.pth', bits='8', export='onnx')
    state = State(Path('again'), options)
    state.finish('export', dict(file=None, said=['No ONNX file: onnx']))
    run = stages.Stages(
        Plan(options, Config(), Path('again'), 'a', None, None, {}), state,
        print)
    monkeypatch.setattr(run, '_exported', lambda: dict(file='a', said=[]))
    run.export()
    assert state['export']['file'] == 'a' and run.remarks() == []


def test_a_dry_run_names_the_base_that_has_the_options(here, capsys):
    compress(
        'small.py',
        'small.pth',
        bits='8',
        dry_run=True,
        work_dir='dry',
        cfg_options={'optim_wrapper.optimizer.lr': 0.1})
    assert "_base_ = 'small_w8a8_base.py'" in capsys.readouterr().out


def test_a_checkpoint_of_another_model_is_refused(here):
    with pytest.raises(Refused, match='is not of this config'):
        compress('small.py', 'big.pth', bits=8)


@pytest.mark.slow
@pytest.mark.gate
def test_compressed_models_are_not_compressed_again(here):
    compress(
        'small.py',
        'small.pth',
        bits=8,
        images=4,
        metric=False,
        work_dir='twice')
    with pytest.raises(Refused, match='is of a low-bit model already'):
        compress('twice/small_w8a8.py', 'twice/small_w8a8.pth', bits='w4a8')
    with pytest.raises(Refused, match='is of a packed model'):
        compress('twice/packed.py', 'twice/packed.pth', bits=8)
