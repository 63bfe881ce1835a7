"""Runs side by side, and what of them is not comparable."""
from dataclasses import replace

import pytest
from results.examples import record

from mmcompress.results import write_record
from mmcompress.results.comparison import (comparison_rows, comparison_table,
                                           read_runs, timed_alike, warnings_of)


def test_all_forms_of_all_runs_are_in_one_table():
    head, rows = comparison_rows(dict(a=record(), b=record()))
    assert [row[:4] for row in rows
            ] == [[run, 'RetinaNet', form, bits] for run in 'ab'
                  for form, bits in (('float', 'float'), ('packed', 'w8a8'))]
    assert head[4] == 'box AP' and rows[1][4:6] == ['40.9', '-0.3']
    assert warnings_of(dict(a=record(), b=record())) == []


def test_other_data_machines_and_calls_are_told():
    first = record()
    timed = [
        replace(f, latency=replace(f.latency, threads=4)) for f in first.forms
    ]
    other = record(data='coco', machine='another', forms=timed)
    data, machine, how = warnings_of(dict(a=first, b=other))
    assert '200 images of cells (a); coco (b)' in data
    assert 'some CPU (a); another (b)' in machine
    assert '1 threads' in how and '4 threads' in how
    text = comparison_table(dict(a=first, b=other))
    assert data in text and machine in text


def test_latencies_of_two_machines_are_not_in_one_plot():

    def groups(**runs):
        return [list(alike) for _, alike in timed_alike(runs)]

    assert groups(a=record(), b=record()) == [['a', 'b']]
    assert groups(a=record(), b=record(machine='x')) == [['a'], ['b']]


def test_metrics_of_two_tasks_have_their_names():
    forms = [replace(f, metrics={'mIoU': 49.3}) for f in record().forms]
    head, rows = comparison_rows(
        dict(a=record(), b=record(metric='mIoU', forms=forms)))
    assert head[4] == 'metric'
    assert [row[4] for row in rows[::2]] == ['box AP 41.2', 'mIoU 49.3 %']


def test_names_are_as_short_as_they_can_be(tmp_path):
    paths = []
    for name in ('x/run', 'y/run'):
        (tmp_path / name).mkdir(parents=True)
        write_record(record(), tmp_path / name / 'record.json')
        paths.append(tmp_path / name)
    assert list(read_runs(paths)) == ['x/run', 'y/run']
    assert list(read_runs(paths[:1])) == ['run']
    write_record(record(kind='mini'), tmp_path / 'fgd_seed1.json')
    assert 'fgd_seed1' in read_runs([*paths, tmp_path / 'fgd_seed1.json'])
    with pytest.raises(ValueError, match='given twice'):
        read_runs([paths[0], paths[0] / 'record.json'])
    with pytest.raises(FileNotFoundError, match='x is no run, .* x/run|run'):
        read_runs([tmp_path / 'x'])


def test_a_folder_without_record_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match='not finished.*compress.py'):
        read_runs([tmp_path])
    with pytest.raises(FileNotFoundError, match='there is no'):
        read_runs([tmp_path / 'nothing'])
    (tmp_path / 'record.json').write_text('{}')
    with pytest.raises(ValueError, match='no record of results'):
        read_runs([tmp_path])
