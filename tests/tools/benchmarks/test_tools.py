import importlib.util
import json
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path

import pytest
from mmengine.config import Config
from rich.console import Console

from comparison import Records, Table, TrainingFailed
from comparison.page import render_page

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
                score=1.0,
                seconds=2.0)
        ]

    monkeypatch.setattr(mini, 'ensure_trained', fake)
    out = StringIO()
    failed = mini.run(trainings, records, tmp_path, Console(file=out))
    assert failed == [trainings[3]]
    assert 'nkd, seed 1 FAILED: out of memory' in out.getvalue()
    assert len(trained) == len(records.read()) == 4
    mini.run(trainings, records, tmp_path, Console(file=out))
    assert len(trained) == 4


def test_report_writes_page_and_plots(monkeypatch, tmp_path):
    results = tmp_path / 'mini.json'
    results.write_text(
        json.dumps([
            dict(
                task='pose',
                method=method,
                seed=seed,
                score=score + seed,
                hash=method,
                config=f'configs/{method}.py',
                metric='coco-wholebody/AP',
                seconds=60,
                machine='a CPU')
            for method, score in (('student', 40), ('dwpose', 45))
            for seed in (1, 2)
        ]))
    out = tmp_path / 'page.md'
    monkeypatch.setattr('sys.argv', [
        'report.py', '--results',
        str(results), '--tuning',
        str(tmp_path / 'none.json'), '--out',
        str(out)
    ])
    tool('report').main()
    assert '+5.0 ± 0.0' in out.read_text()
    assert (tmp_path / 'gains_pose.svg').is_file()


def test_the_page_is_what_the_tool_renders():
    docs = ROOT / 'docs' / 'benchmarks'
    page = render_page(
        Records(docs / 'mini.json').read(),
        Records(docs / 'tuning.json').read(), Table(ROOT),
        lambda config: f'../../{config}',
        tool('report').plot_name)
    assert (docs / 'mini.md').read_text('utf-8') == page
