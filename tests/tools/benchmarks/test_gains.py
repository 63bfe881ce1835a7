import statistics
from pathlib import Path

import pytest

from comparison import Entry, Gain, Summary, Table, summarize, verdict
from comparison.page import draw_gains, render_page, task_table


def compares(**others):
    """A table in which some methods have something to be compared with."""
    table = Table(Path('no such folder'))
    for name, other in others.items():
        table.entries['detection', name] = Entry(
            name, 'detection', f'configs/{name}.py', compared_with=other)
    return table


def record(method, seed, score, config_hash='1', task='detection'):
    return dict(
        task=task,
        method=method,
        seed=seed,
        score=score,
        hash=config_hash,
        config=f'configs/{method}.py',
        metric='coco/bbox_mAP',
        seconds=60,
        machine='a CPU')


RECORDS = [
    record('teacher', 0, 60.0),
    *(record('student', s, x) for s, x in ((1, 40.0), (2, 42.0), (3, 41.0))),
    # an older setting, then the one that counts
    *(record('fgd', s, 99.0, 'old') for s in (1, 2, 3)),
    *(record('fgd', s, x) for s, x in ((3, 45.0), (1, 45.0), (2, 46.0))),
    *(record('pkd', s, x) for s, x in ((1, 41.0), (2, 41.0), (3, 42.0))),
    record('mgd', 1, 50.0),
    record('fgd', 1, 80.0, task='pose'),
]


def test_newest_setting_counts_and_other_tasks_do_not():
    summaries = summarize(RECORDS, 'detection')
    assert list(summaries) == ['teacher', 'student', 'fgd', 'pkd', 'mgd']
    assert summaries['fgd'].scores == {3: 45.0, 1: 45.0, 2: 46.0}
    assert summaries['student'].mean == 41
    assert summaries['student'].spread == pytest.approx(1)
    assert summaries['mgd'].spread is None


def test_gain_is_paired_by_seed():
    student = Summary('student', {1: 40.0, 2: 50.0, 3: 60.0})
    gain = Gain.between(student, Summary('a', {3: 62.0, 1: 41.0}))
    assert gain.differences == (1, 2)
    assert gain.mean == 1.5
    assert gain.spread == pytest.approx(statistics.stdev([1, 2]))
    with pytest.raises(ValueError, match='no seed in common'):
        Gain.between(student, Summary('a', {4: 62.0}))


@pytest.mark.parametrize(
    'scores, expected',
    [
        ((42.1, 42.1, 42.1), 'gains'),
        # as much as the student's own spread is not enough
        ((42.0, 42.0, 42.0), 'no clear difference'),
        ((39.0, 39.5, 39.0), 'loses'),
        # the same difference of every seed, but less than the seeds' spread
        ((40.9, 42.9, 41.9), 'no clear difference'),
        ((40.0, 44.0, 49.0), 'no clear difference')
    ])
def test_verdict_asks_for_more_than_each_spread(scores, expected):
    student = Summary('student', {1: 40.0, 2: 42.0, 3: 41.0})
    method = Summary('a', dict(zip((1, 2, 3), scores)))
    assert verdict(student, method) == expected


def test_one_seed_is_no_verdict():
    student = Summary('student', {1: 40.0, 2: 42.0})
    assert verdict(student, Summary('a', {1: 90.0})) == 'too few seeds'


def test_what_was_trained_once_stands_for_every_seed():
    origin = Summary('float', {0: 60.0})
    method = Summary('lsq', {1: 58.0, 2: 59.0})
    assert Gain.between(origin, method).differences == (-2, -1)
    # its own spread is not known
    assert verdict(origin, method) == ''


def rows(table):
    cells = [line.strip('| ').split(' | ') for line in table.splitlines()[2:]]
    return {row[0]: row for row in cells}


def test_table_has_the_numbers():
    tuning = [record('fgd', 11, 44.0, str(i)) for i in range(3)]
    tuning += [record('fgd', 11, 44.0, task='pose'), record('student', 11, 1.)]
    table = rows(
        task_table(RECORDS, tuning, 'detection', compares(), '../{}'.format))
    assert table['student'][1] == '41.0 ± 1.0'
    assert table['teacher'][1] == '60.0'
    assert table['fgd'][1:8] == [
        '45.3 ± 0.6', 'student', '+4.3 ± 0.6', 'gains', '3', '3', '60'
    ]
    assert table['pkd'][1:7] == [
        '41.3 ± 0.6', 'student', '+0.3 ± 1.2', 'no clear difference', '3', '0'
    ]
    assert table['mgd'][1:5] == ['50.0', 'student', '+10.0', 'too few seeds']
    assert table['fgd'][8] == '[config](../configs/fgd.py)'


def test_a_gain_is_over_what_the_method_starts_from():
    table = rows(
        task_table(RECORDS, [], 'detection',
                   compares(fgd='pkd', mgd='inherit'), str))
    assert table['fgd'][2:5] == ['pkd', '+4.0 ± 1.0', 'gains']
    # never the student's in its place
    assert table['mgd'][2:4] == ['inherit', 'not measured']


def test_page_has_the_notes_of_the_metafiles():
    table = compares(fgd='student')
    table.entries['detection', 'pkd'] = Entry(
        'pkd', 'detection', 'configs/pkd.py', note='Mind the gap.')
    page = render_page(RECORDS[:-1], [], table, str, str)
    assert 'Box AP in percent. Mind the gap.\n' in page


def test_page_shows_every_task_and_needs_a_student():
    tuning = [record('teacher', 0, 1.0), record('fgd', 12, 1.0)]
    page = render_page(RECORDS[:-1], tuning, compares(), str,
                       'gains_{}.svg'.format)
    assert '## Detection' in page and 'gains_detection.svg' in page
    assert 'seeds\n12 and' in page and 'a CPU' in page
    with pytest.raises(ValueError, match="pose: the baseline, 'student', has"):
        render_page(RECORDS, [], compares(), str, str)


def test_plot_is_the_same_file_for_the_same_numbers(tmp_path):
    for name in ('a.svg', 'b.svg'):
        draw_gains(
            summarize(RECORDS, 'detection'), compares(fgd='pkd', mgd='no'),
            'detection', tmp_path / name)
    text = (tmp_path / 'a.svg').read_text()
    assert text == (tmp_path / 'b.svg').read_text()
    assert all(f'>{word}<' in text
               for word in ('fgd', 'over pkd', 'pkd', 'over student'))
    # whose other was not measured
    assert '>mgd<' not in text
