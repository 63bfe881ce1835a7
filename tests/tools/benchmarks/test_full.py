"""Full-size configs: what they need, how they run, what is left of a run."""
import os
import subprocess
import sys
import time
from copy import deepcopy
from io import StringIO
from pathlib import Path

import full
import pytest
import torch
from rich.console import Console

from comparison.networks import Network
from fullsize import reported
from fullsize.launch import Launcher, ProcessFailed, execute
from fullsize.plan import Settings, find, plan
from fullsize.runs import Runner
from fullsize.walk import strings
from mmcompress.results import read_records

ROOT = Path(__file__).parents[3]
WHOLE_BODY = 'dwpose_s2_rtmpose-m_60e_coco-wholebody-256x192'
# runs its command here, as Slurm would on a node
SRUN = '''#!/usr/bin/env bash
echo "$@" >> "$SAID"
while [[ "$1" == -* ]]; do
    [[ "$1" == -p ]] && shift
    shift
done
[[ -n "$ONLY_SAY" ]] && { echo "only said"; exit 3; }
# a machine without GPUs is no node for mmengine
exec "${@//--launcher=slurm/--launcher=none}"
'''


def runs_of(*names, **settings):
    return plan(find(list(names), [], ROOT), Settings(ROOT, **settings))


@pytest.fixture(scope='module')
def voc():
    """A detector and its teacher, without data."""
    return runs_of('configs/ida_det/ida_det_r18.py')


def test_teachers_and_stages_come_first(voc):
    assert [run.name for run in voc] == ['ida_det_teacher_r101', 'ida_det_r18']
    assert voc[1].after == {'model.teacher.checkpoint': voc[0]}
    assert voc[0].downloads == ['torchvision://resnet101']


def test_missing_data_are_named_with_where_to_get_them(voc):
    text, = voc[0].missing
    assert 'VOC2007/ImageSets/Main/trainval.txt does not exist' in text
    assert 'mim download mmdet --dataset voc2007' in text


def test_settings_of_a_run_are_also_those_of_the_runs_before(voc):
    student = deepcopy(voc[1])
    assert student.hash == voc[1].hash
    student.after['model.teacher.checkpoint'].cfg.train_cfg.max_epochs = 5
    assert student.hash != voc[1].hash


def test_data_root_stands_for_data():
    run = runs_of(WHOLE_BODY, data_root='/elsewhere')[-1]
    said = dict(strings(run.cfg.to_dict()))
    assert said['train_dataloader.dataset.data_root'] == '/elsewhere/coco/'
    assert said['val_evaluator.ann_file'].startswith('/elsewhere/coco/')
    assert said['val_dataloader.dataset.bbox_file'].startswith('/elsewhere/')
    assert 'COCO-WholeBody' in run.missing[0]


@pytest.mark.parametrize('names, methods, said', [
    (['fgd_retinanet_mini'], [], 'is no full-size config'),
    ([], ['unheard'], 'no full-size config of unheard; methods: .*fgd'),
])
def test_unknown_names(names, methods, said):
    with pytest.raises(ValueError, match=said):
        find(names, methods, ROOT)


def test_methods_stand_for_all_their_configs():
    names = [entry.stem for entry in find([], ['pkd'], ROOT)]
    assert 'pkd_tood_r50_r101_fpn_1x_coco' in names
    assert not any('mini' in name for name in names)


def test_samples_download_nothing_and_take_a_step():
    run = runs_of(WHOLE_BODY, sample=Path('/samples'), images=4)[-1]
    assert not run.downloads
    assert run.data == 'four images of COCO-WholeBody'
    assert run.cfg.train_cfg.max_epochs == 1
    parts = {k: run.cfg[k] for k in ('train_dataloader', 'val_evaluator')}
    said = ' '.join(text for _, text in strings(parts))
    assert 'data/coco' not in said and 'Albumentation' not in said


def test_there_is_not_a_sample_of_everything():
    with pytest.raises(ValueError, match='no sample of ImageNet, only of'):
        runs_of('xnor_r18', sample=Path('/samples'))


@pytest.mark.parametrize(
    'folder, stem, said',
    [
        ('fgd', 'fgd_gfl_r50_r101_fpn_1x_coco', {
            'plain, paper': '40.2',
            'with FGD, paper': '43.5'
        }),
        ('fgd', 'fgd_retinanet_r50_r101_fpn_2x_coco', {
            'plain, paper': '37.4'
        }),
        # what is reported is what both stages reach
        ('q_detr', 'q_detr_detr_r50_2-2-8_stage1_coco', {}),
        ('react', 'react_r18_step2', {
            'paper': '65.9'
        }),
    ])
def test_papers_numbers_are_those_of_the_pages(folder, stem, said):
    assert reported(ROOT, folder, stem) == said


def command(kind, tool):
    launcher = Launcher(ROOT, kind, 4, 'gpu')
    checkpoint = 'last.pth' if tool == 'test' else ''
    words = launcher.command(tool, 'job', Path('c.py'), Path('out'),
                             checkpoint)
    # the interpreter may lie in the checkout, too
    text = ' '.join(words).replace(sys.executable, 'python')
    return text.replace(f'{ROOT}/', '')


@pytest.mark.parametrize('kind, tool, said', [
    ('none', 'train', 'python tools/train.py c.py --work-dir out'),
    ('none', 'test', 'python tools/test.py c.py last.pth --work-dir out'),
    ('local', 'train', 'bash tools/dist_train.sh c.py 4 --work-dir out'),
    ('local', 'test', 'bash tools/dist_test.sh c.py last.pth 4 '
     '--work-dir out'),
    ('slurm', 'train', 'bash tools/slurm_train.sh gpu job c.py out'),
    ('slurm', 'test', 'bash tools/slurm_test.sh gpu job c.py last.pth '
     '--work-dir out'),
])
def test_tools_are_started_as_they_want_it(kind, tool, said):
    assert command(kind, tool) == said


@pytest.fixture
def srun(monkeypatch, tmp_path):
    """Slurm's, of a cluster of this machine; what it was told."""
    script = tmp_path / 'bin' / 'srun'
    script.parent.mkdir()
    script.write_text(SRUN)
    script.chmod(0o755)
    said = tmp_path / 'said'
    monkeypatch.setenv('PATH', f'{script.parent}:{os.environ["PATH"]}')
    monkeypatch.setenv('SAID', str(said))
    return said


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_slurm_is_asked_for_what_was_given(srun, tmp_path, tool, monkeypatch):
    monkeypatch.setenv('ONLY_SAY', '1')
    launcher = Launcher(ROOT, 'slurm', 16, 'gpu', gpus_per_node=8)
    words = launcher.command(tool, 'job', tmp_path / 'c.py', tmp_path,
                             'last.pth' if tool == 'test' else '')
    with pytest.raises(ProcessFailed, match='status 3(.|\n)*only said'):
        execute(words, tmp_path / 'log', launcher.environment(),
                lambda text: None)
    said = srun.read_text()
    assert '-p gpu --job-name=job --gres=gpu:8 --ntasks=16' in said
    assert f'tools/{tool}.py' in said


def test_a_process_is_ended_with_all_that_it_started(tmp_path):
    pid = tmp_path / 'pid'

    def interrupt(text):
        raise KeyboardInterrupt

    script = f'sleep 60 & echo $! > {pid}; echo "Epoch(train) [1][1/2]"; wait'
    with pytest.raises(KeyboardInterrupt):
        execute(['bash', '-c', script], tmp_path / 'log', dict(os.environ),
                interrupt)
    status = Path(f'/proc/{pid.read_text().strip()}/status')

    def is_gone():
        # or a zombie that nobody has waited for yet
        try:
            return 'Z (zombie)' in status.read_text()
        except OSError:
            return True

    # the signal is sent; a busy machine delivers it when it gets to it
    until = time.time() + 20
    while not is_gone() and time.time() < until:
        time.sleep(0.05)
    assert is_gone()


class Tools:
    """In place of the processes: their files, and what they were asked."""

    def __init__(self):
        self.asked = []
        self.broken = set()

    def __call__(self, words, log, env, report):
        tool = log.stem
        folder = log.parent
        self.asked.append((tool, folder.name, '--resume' in words))
        if tool == 'train':
            torch.save(
                dict(state_dict=dict(weight=torch.zeros(10))),
                folder / 'epoch_1.pth')
            (folder / 'last_checkpoint').write_text(f'{folder}/epoch_1.pth')
        if (tool, folder.name) in self.broken:
            raise ProcessFailed('out of memory')
        if tool == 'test':
            out = folder / 'test' / 'now' / 'now.json'
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text('{"pascal_voc/mAP": 0.725, "time": 1.0}')


@pytest.fixture
def tools(monkeypatch):
    tools = Tools()
    network = Network('detection', 'FasterRCNN', ['IDa-Det'], 'w1a1', 10)
    monkeypatch.setattr('fullsize.runs.execute', tools)
    # the layout of its text takes seconds
    monkeypatch.setattr(
        'mmengine.config.Config.dump',
        lambda cfg, path: Path(path).write_text(str(cfg.to_dict())))
    monkeypatch.setattr('fullsize.runs.network_of', lambda *_: network)
    return tools


@pytest.fixture
def work(voc, tmp_path):
    """Work on the two runs, as if their data were there."""
    runner = Runner(tmp_path / 'work', Launcher(ROOT), Settings(ROOT),
                    tmp_path / 'store')
    for run in voc:
        run.missing = []

    def work(only=None):
        out = StringIO()
        console = Console(file=out, width=200)
        return full.work(voc, runner, only, console), out.getvalue()

    work.runner = runner
    return work


def test_what_is_done_is_not_done_again(work, tools, tmp_path):
    assert work()[0] == {}
    assert [(tool, name) for tool, name, _ in tools.asked
            ] == [('train', 'ida_det_teacher_r101'),
                  ('test', 'ida_det_teacher_r101'), ('train', 'ida_det_r18'),
                  ('test', 'ida_det_r18')]
    config = tmp_path / 'work/ida_det_r18/config/ida_det_r18.py'
    assert 'work/ida_det_teacher_r101/epoch_1.pth' in config.read_text()
    tools.asked.clear()
    store = tmp_path / 'store' / 'full.json'
    store.rename(tmp_path / 'kept.json')
    assert work()[0] == {}
    assert tools.asked == []
    # nor recorded again, with another date
    assert not store.exists()
    (tmp_path / 'kept.json').rename(store)
    teacher, student = read_records(tmp_path / 'store' / 'full.json')
    assert student.kind == 'full'
    assert student.config == 'configs/ida_det/ida_det_r18.py'
    assert student.metric == 'pascal_voc/mAP'
    assert student.forms[0].metrics == {'pascal_voc/mAP': 0.725}
    assert student.forms[0].bytes == 40


def test_what_was_interrupted_resumes_and_stops_only_what_needs_it(
        work, tools, voc):
    tools.broken = {('train', 'ida_det_teacher_r101')}
    failed, said = work()
    assert failed.keys() == {'ida_det_teacher_r101', 'ida_det_r18'}
    assert 'out of memory' in failed['ida_det_teacher_r101']
    assert 'from which it starts' in failed['ida_det_r18']
    tools.broken.clear()
    tools.asked.clear()
    assert work()[0] == {}
    assert tools.asked[0] == ('train', 'ida_det_teacher_r101', True)
    # a first start keeps load_from, which mm tools drop when resuming
    assert tools.asked[2] == ('train', 'ida_det_r18', False)


def test_a_folder_of_other_settings_is_refused(work, tools, voc):
    work()
    before = voc[0].cfg.train_cfg.max_epochs
    voc[0].cfg.train_cfg.max_epochs = 99
    try:
        failed, _ = work()
    finally:
        voc[0].cfg.train_cfg.max_epochs = before
    assert 'was begun with other settings' in failed['ida_det_teacher_r101']


def test_a_config_without_data_stops_no_other(work, tools, voc):
    voc[1].missing = ['no VOC']
    failed, _ = work(only='train')
    voc[1].missing = []
    assert failed == {'ida_det_r18': 'no VOC'}
    assert tools.asked == [('train', 'ida_det_teacher_r101', False)]


def test_the_table_has_what_papers_report(work, tools):
    run, = runs_of('fgd_gfl_r50_r101_fpn_1x_coco')
    out = StringIO()
    full.show_table([run], work.runner, Console(file=out, width=200))
    assert 'with FGD, paper: 43.5 | not run |' in out.getvalue()


@pytest.mark.parametrize('arguments, said', [
    ([], 'name configs, or methods'),
    (['a', '--launcher', 'slurm'], 'needs --partition'),
    (['a', '--gpus', '2'], 'needs --launcher local or slurm'),
    (['a', '--sample', '/no/such/folder'], 'is no folder'),
])
def test_refuses(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr('sys.argv', ['full.py', *arguments])
    with pytest.raises(SystemExit):
        full.parse_args()
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    'MMCOMPRESS_DATA' not in os.environ,
    reason='MMCOMPRESS_DATA names no folder with real images')
@pytest.mark.parametrize('name, launcher', [
    ('fgd_retinanet_r50_r101_fpn_2x_coco', ['--launcher', 'slurm']),
    ('ida_det_r18', []),
    (WHOLE_BODY, []),
])
def test_the_whole_path_on_photographs(srun, tmp_path, name, launcher):
    command = [
        sys.executable, ROOT / 'tools/benchmarks/full.py', name, '--sample',
        os.environ['MMCOMPRESS_DATA'], '--sample-images', '2', '--work-dir',
        tmp_path / 'work', *launcher
    ]
    if launcher:
        command += ['--partition', 'here']
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    records = read_records(tmp_path / 'work' / 'samples.json')
    last = next(r for r in records if Path(r.config).stem == name)
    assert last.kind == 'real' and last.metric in last.forms[0].metrics
    assert srun.is_file() == bool(launcher)
    # again: nothing is left to do
    state = (tmp_path / 'work' / name / 'state.json').read_text()
    again = subprocess.run(command, env=env, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout
    assert (tmp_path / 'work' / name / 'state.json').read_text() == state
