"""Records of results come back as they were written, or not at all."""
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from mmengine.config import Config

from mmcompress.results import (Form, Latency, Record, add_record, read_record,
                                read_records, write_record, write_records)
from mmcompress.results.record import config_hash


def _record(**changed) -> Record:
    latency = Latency(3.5, 3.4, 3.7, 20, size=[32, 32], parts=dict(head=1.0))
    forms = [
        Form('float', 'a.py', 'a.pth', metrics={'accuracy/top1': 92.75}),
        Form('packed', bits='w8a8', bytes=1234, latency=latency)
    ]
    return Record(
        **{
            **dict(
                kind='compress',
                task='classification',
                model='ResNet',
                methods=['LSQ'],
                config='a.py',
                config_hash='0' * 12,
                forms=forms,
                settings=dict(bits='8'),
                remarks=['Ü: slower']),
            **changed
        })


def test_a_record_comes_back(tmp_path):
    path = tmp_path / 'record.json'
    write_record(_record(), path)
    assert read_record(path) == _record()
    assert read_record(path).form('packed').latency.parts == {'head': 1.0}


@pytest.mark.parametrize('content, named', [
    ('[1]', 'no `schema`'),
    ('{"a": 1}', 'no `schema`'),
    ('not json', 'no `schema`'),
    ('{"schema": 2}', 'schema 2, this version reads 1'),
    ('{"schema": 1}', 'forms'),
])
def test_other_files_are_refused(tmp_path, content, named):
    path = tmp_path / 'x.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=named):
        read_record(path)


def test_unknown_keys_are_refused(tmp_path):
    path = tmp_path / 'x.json'
    write_record(_record(), path)
    content = json.loads(path.read_text())
    content['extra'] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='extra'):
        read_record(path)


def test_wrong_kinds_and_doubled_forms():
    with pytest.raises(ValueError, match="kind 'guess'"):
        _record(kind='guess')
    with pytest.raises(ValueError, match='forms of one name'):
        _record(forms=[Form('float'), Form('float')])


def test_the_hash_is_of_what_the_config_says():
    cfg = Config(dict(model=dict(type='A', depth=18), work_dir='x'))
    same = Config(dict(work_dir='y', model=dict(depth=18, type='A')))
    other = Config(dict(model=dict(type='A', depth=34)))
    assert config_hash(cfg) == config_hash(same) != config_hash(other)


def test_a_list_comes_back_and_leaves_out_defaults(tmp_path):
    path = tmp_path / 'records.json'
    records = [_record(), _record(seed=0, log='a.log')]
    write_records(records, path)
    assert read_records(path) == records
    text = path.read_text()
    assert len(text.splitlines()) == 4
    assert '"seed": 0' in text and 'null' not in text
    assert 'machine' not in text


def test_a_single_record_is_a_list_of_one(tmp_path):
    path = tmp_path / 'record.json'
    write_record(_record(), path)
    assert read_records(path) == [_record()]


def test_a_record_takes_the_place_of_its_like(tmp_path):
    path = tmp_path / 'new' / 'records.json'
    for seed, seconds in ((1, 5.0), (2, 6.0), (1, 7.0)):
        add_record(
            _record(seed=seed, seconds=seconds), path, key=lambda r: r.seed)
    assert [(r.seed, r.seconds) for r in read_records(path)] == [(2, 6.0),
                                                                 (1, 7.0)]


def test_several_writers_lose_no_record(tmp_path):
    path = tmp_path / 'records.json'
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda i: add_record(
                    _record(seed=i), path, key=lambda r: r.seed), range(20)))
    assert sorted(r.seed for r in read_records(path)) == list(range(20))
