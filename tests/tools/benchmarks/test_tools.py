import importlib.util
import sys
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path

import pytest
from mmengine.config import Config
from rich.console import Console

from comparison import Records, TrainingFailed
from comparison.networks import Network

ROOT = Path(__file__).parents[3]


def tool(name):
    path = ROOT / 'tools' / 'benchmarks' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def mini():
    return tool('mini')


def test_every_config_of_the_table_exists(mini):
    for training in mini.plan(mini.NAMES, list(mini.TABLE.tasks), [1]):
        assert (ROOT / training.config).is_file()
        cfg = Config.fromfile(ROOT / training.config)
        for option, first in training.after.items():
            # an option that is there: a misspelt one would be an argument
            assert reduce(getitem, option.split('.'), cfg)
            assert (ROOT / first.config).is_file()


def test_plan_has_the_teacher_once_and_a_student_for_each_seed(mini):
    trainings = mini.plan(['nkd', 'fgd'], ['classification'], [1, 2])
    assert [(t.method, t.seed) for t in trainings] == [('teacher', 0),
                                                       ('student', 1),
                                                       ('student', 2),
                                                       ('nkd', 1), ('nkd', 2)]
    teacher = trainings[-1].after['model.teacher.checkpoint']
    assert teacher.hash == trainings[0].hash


@pytest.mark.parametrize('arguments, error', [
    (['kd', '--seeds', '11'], 'those of tuning'),
    (['kd', '--tuning', '--seeds', '1'], 'those of reported results'),
    (['kd', '--set', 'a=1'], '--set needs --tuning'),
    (['unheard'], 'invalid choice'),
])
def test_refuses(mini, monkeypatch, capsys, arguments, error):
    monkeypatch.setattr('sys.argv', ['mini.py', *arguments])
    with pytest.raises(SystemExit):
        mini.parse_args()
    assert error in capsys.readouterr().err


def test_goes_on_where_it_was_and_says_what_failed(mini, monkeypatch,
                                                   tmp_path):
    trainings = mini.plan(['nkd'], ['classification'], [1, 2])
    records = Records(tmp_path / 'mini.json')
    trained = []

    def fake(training, work_dir, report):
        if training.method == 'nkd' and training.seed == 1:
            raise TrainingFailed('out of memory')
        trained.append(training.title)
        return [
            dict(
                hash=training.hash,
                seed=training.seed,
                task=training.task,
                method=training.method,
                config=training.config,
                metric=training.metric,
                options=[],
                after=[],
                date='',
                machine='',
                versions={},
                score=1.0,
                seconds=2.0)
        ]

    monkeypatch.setattr(mini, 'ensure_trained', fake)
    network = Network('classification', 'ResNet', ['NKD'], 'float', 10)
    monkeypatch.setattr(mini, 'network_of', lambda *_: network)
    out = StringIO()
    failed = mini.run(trainings, records, tmp_path, Console(file=out))
    assert failed == [trainings[3]]
    assert 'nkd, seed 1 FAILED: out of memory' in out.getvalue()
    assert len(trained) == len(records.read()) == 4
    mini.run(trainings, records, tmp_path, Console(file=out))
    assert len(trained) == 4


def test_report_writes_page_and_plots(monkeypatch, tmp_path):
    records = Records(tmp_path / 'store' / 'mini.json')
    for method, score in (('student', 40), ('dwpose', 45)):
        for seed in (1, 2):
            records.append(
                dict(
                    task='pose',
                    method=method,
                    seed=seed,
                    score=score + seed,
                    scale=100,
                    hash=method,
                    config=f'configs/{method}.py',
                    metric='coco-wholebody/AP',
                    seconds=60,
                    options=[],
                    after=[],
                    date='',
                    versions={},
                    machine='a CPU'))
    out = tmp_path / 'pages'
    monkeypatch.setattr(
        'sys.argv',
        ['report.py', '--store',
         str(tmp_path / 'store'), '--out',
         str(out)])
    report = tool('report')
    assert report.main() == 0
    assert '+5.0 ± 0.0' in (out / 'mini.md').read_text()
    assert (out / 'gains_pose.svg').is_file()
    assert '"score":41.5' in (out / 'dashboard.html').read_text()
    assert 'not run' in (out / 'full.md').read_text()
    monkeypatch.setattr('sys.argv', ['report.py', '--check', *sys.argv[1:]])
    assert report.main() == 0
    (out / 'full.md').write_text('of an older store')
    assert report.main() == 1


def test_every_page_is_what_the_tool_renders():
    docs = ROOT / 'docs'
    pages = tool('report').render(docs / 'results', docs / 'benchmarks')
    assert {'mini.md', 'full.md', 'dashboard.html',
            'packed.md'} <= {path.name
                             for path in pages}
    assert [
        p.name for p, text in pages.items() if p.read_text('utf-8') != text
    ] == []
    # small enough to be committed
    assert len(pages[docs / 'benchmarks' / 'dashboard.html']) < 300_000
