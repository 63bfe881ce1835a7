"""Records of results come back as they were written, or not at all."""
import json

import pytest
from mmengine.config import Config

from mmcompress.results import Form, Latency, Record, read_record, write_record
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
