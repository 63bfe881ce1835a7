import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from comparison import Records
from comparison.networks import Network
from mmcompress.results import read_records


def record(seed, score=1.0, task='pose', **given):
    return dict(
        dict(
            hash='abc',
            seed=seed,
            score=score,
            task=task,
            method='dwpose',
            config='a.py',
            metric='PCK',
            options=['a=1'],
            after=['def'],
            seconds=60,
            date='2026-11-30',
            machine='a CPU',
            versions=dict(mmcompress='0.1.0')), **given)


def scaled(*arguments, **given):
    return dict(record(*arguments, **given), scale=100)


def test_keeps_what_was_there_and_one_record_per_training(tmp_path):
    records = Records(tmp_path / 'docs' / 'mini.json')
    assert records.read() == []
    records.append(scaled(1))
    records.append(scaled(2))
    records.append(scaled(1, score=9.0))
    assert records.read() == [record(1), record(2)]
    assert records.find('abc', 2, 'pose') == record(2)
    assert records.find('abc', 3, 'pose') is None
    assert records.find('other', 1, 'pose') is None


def test_a_training_may_belong_to_several_tasks(tmp_path):
    records = Records(tmp_path / 'mini.json')
    records.append(scaled(1))
    assert records.find('abc', 1, 'detection') is None
    records.append(scaled(1, task='detection'))
    assert len(records.read()) == 2


def test_several_writers_lose_nothing(tmp_path):
    path = tmp_path / 'mini.json'
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Records(path).append(scaled(i)), range(40)))
    assert sorted(r['seed'] for r in Records(path).read()) == list(range(40))


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    records = Records(tmp_path / 'mini.json')
    records.append(scaled(1))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('os.replace', stop)
    with pytest.raises(KeyboardInterrupt):
        records.append(scaled(2))
    assert records.read() == [record(1)]


def test_refuses_another_file(tmp_path):
    path = tmp_path / 'mini.json'
    path.write_text(json.dumps(dict(a=1)))
    with pytest.raises(ValueError, match='no record of results'):
        Records(path).read()


def test_the_store_keeps_what_the_evaluator_said(tmp_path):
    path = tmp_path / 'mini.json'
    network = Network('pose', 'RTMPose', ['DWPose'], 'float', 1000)
    Records(path).append(scaled(1, score=61.55), network=network, tuning=True)
    kept, = read_records(path)
    assert kept.forms[0].metrics == {'PCK': 0.6155}
    assert (kept.methods, kept.task) == (['DWPose'], 'pose')
    assert kept.forms[0].parameters == 1000
    assert kept.settings['tuning']
