import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from comparison import Records


def record(seed, score=1.0, task='pose'):
    return dict(hash='abc', seed=seed, score=score, task=task)


def test_keeps_what_was_there_and_one_record_per_training(tmp_path):
    records = Records(tmp_path / 'docs' / 'mini.json')
    assert records.read() == []
    records.append(record(1))
    records.append(record(2))
    records.append(record(1, score=9.0))
    assert records.read() == [record(1), record(2)]
    assert records.find('abc', 2, 'pose') == record(2)
    assert records.find('abc', 3, 'pose') is None
    assert records.find('other', 1, 'pose') is None


def test_a_training_may_belong_to_several_tasks(tmp_path):
    records = Records(tmp_path / 'mini.json')
    records.append(record(1))
    assert records.find('abc', 1, 'detection') is None
    records.append(record(1, task='detection'))
    assert len(records.read()) == 2


def test_several_writers_lose_nothing(tmp_path):
    path = tmp_path / 'mini.json'
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Records(path).append(record(i)), range(40)))
    assert sorted(r['seed'] for r in Records(path).read()) == list(range(40))


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    records = Records(tmp_path / 'mini.json')
    records.append(record(1))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('os.replace', stop)
    with pytest.raises(KeyboardInterrupt):
        records.append(record(2))
    assert records.read() == [record(1)]


def test_refuses_another_file(tmp_path):
    path = tmp_path / 'mini.json'
    path.write_text(json.dumps(dict(a=1)))
    with pytest.raises(ValueError, match='no list of records'):
        Records(path).read()
