"""Rows of the store, and what they are held against."""
from pathlib import Path

import pytest

from comparison import Records, Table, is_origin, summarize, verdict
from comparison.dashboard import render_dashboard
from comparison.metrics import to_percent
from comparison.networks import methods_of, network_of
from comparison.rows import make_rows, read_store
from comparison.tables import fill_tables
from comparison.verdicts import Baselines
from mmcompress.results import Form, Latency, Record

ROOT = Path(__file__).parents[3]


def run(method, scores, other='', bits='float', **given):
    """Records of a training, one for each seed."""
    given = dict(
        dict(
            kind='mini',
            task='classification',
            model='ResNet',
            methods=['KD'],
            config=f'{method}.py',
            config_hash='1',
            metric='accuracy/top1',
            data='mini data'), **given)
    settings = dict(task='a group', method=method, compared_with=other)
    return [
        ('a.json',
         Record(
             seed=seed,
             settings=settings,
             forms=[
                 Form('trained', bits=bits, metrics={'accuracy/top1': score})
             ],
             **given)) for seed, score in scores.items()
    ]


def verdicts(store, method, form='trained', float_of=None):
    rows = make_rows(store)
    row = next(r for r in rows if (r.method, r.form) == (method, form))
    return Baselines(rows, lambda *_: None, float_of
                     or (lambda _: None)).of(row)


STUDENT = run('student', {1: 70.0, 2: 72.0, 3: 71.0}, methods=[])


@pytest.mark.parametrize('scores, says, difference', [
    ({1: 75.0, 2: 77.0, 3: 76.0}, 'gains', 5.0),
    ({1: 65.0, 2: 67.0, 3: 66.0}, 'loses', -5.0),
    ({1: 70.5, 2: 72.5, 3: 71.5}, 'within noise', 0.5),
    # the seeds disagree by more than they gain
    ({1: 80.0, 2: 70.0, 3: 71.0}, 'within noise', 8 / 3),
    ({2: 90.0}, 'one seed', 18.0),
])  # yapf: disable
def test_seeds_are_paired_and_noise_is_no_gain(scores, says, difference):
    found, = verdicts(STUDENT + run('kd', scores, 'student'), 'kd')
    assert (found.baseline, found.seeds, found.says) == ('student', 3, says)
    assert found.difference == pytest.approx(difference)


def test_a_baseline_that_was_trained_once_is_named_so():
    teacher = run('float', {0: 90.0}, methods=[])
    found, = verdicts(teacher + run('lsq', {1: 80.0, 2: 81.0}, 'float'), 'lsq')
    assert found.says == 'loses, baseline once'


def test_nothing_is_compared_where_nothing_was_measured():
    assert verdicts(run('kd', {1: 80.0}, 'student'), 'kd') == []


def test_quantized_training_is_held_against_quantizing_without():
    forms = [
        Form(n, bits=b, metrics={'accuracy/top1': s})
        for n, b, s in (('float', 'float', 90.0), ('quantized', 'w4a4', 85.0))
    ]
    without = Record(
        kind='mini',
        task='classification',
        model='ResNet',
        methods=['PTQ'],
        config='float.py',
        config_hash='',
        seed=0,
        metric='accuracy/top1',
        data='mini data, 64 images to calibrate',
        settings=dict(task='without training', method='PTQ W4A4'),
        forms=forms)
    store = [('b.json', without)] + run('float', {0: 90.0}) + run(
        'lsq', {
            1: 80.0,
            2: 80.5
        }, 'float', 'w4a4', methods=['LSQ'])
    found = verdicts(store, 'lsq', float_of=lambda config: 'float.py')
    assert [v.baseline for v in found] == ['PTQ W4A4', 'float']
    assert found[0].difference == pytest.approx(-4.75)
    # at other bits nothing was measured
    store += run('lsq8', {1: 89.0}, 'float', 'w8a8', methods=['LSQ'])
    found = verdicts(store, 'lsq8', float_of=lambda config: 'float.py')
    assert [v.baseline for v in found] == ['float']


def timed(name, bits, score, median, **latency):
    return Form(
        name,
        bits=bits,
        metrics={'accuracy/top1': score},
        latency=Latency(median, None, None, 9, **latency))


@pytest.mark.parametrize('median, threads, found', [
    (10.5, 1, True),
    (12.0, 1, False),
    (10.5, 2, False),
])
def test_a_compressed_network_is_held_against_a_float_one_as_fast(
        median, threads, found):
    of = dict(
        kind='compress',
        task='classification',
        config_hash='',
        metric='accuracy/top1',
        machine='a CPU')
    large = Record(
        model='ResNet-50',
        methods=['LSQ'],
        config='large.py',
        settings=dict(task='own', method='large'),
        forms=[
            timed('float', 'float', 80.0, 30.0),
            timed('packed', 'w4a4', 78.0, 10.0)
        ],
        **of)
    small = Record(
        model='ResNet-18',
        methods=[],
        config='small.py',
        settings=dict(task='own', method='small'),
        forms=[timed('float', 'float', 79.0, median, threads=threads)],
        **of)
    said = {
        v.baseline: v.difference
        for v in verdicts([('a.json', large), ('a.json',
                                               small)], 'large', 'packed')
    }
    assert said.pop('float') == pytest.approx(-2.0)
    assert said == ({
        'float of equal latency': pytest.approx(-1.0)
    } if found else {})


def test_a_distilled_form_is_held_against_the_student_alone():
    record = Record(
        kind='compress',
        task='classification',
        model='ResNet',
        methods=['KD'],
        config='a.py',
        config_hash='',
        metric='accuracy/top1',
        settings=dict(task='own', method='kd'),
        forms=[
            Form(n, metrics={'accuracy/top1': s})
            for n, s in (('float', 90.0), ('student alone', 80.0),
                         ('compressed', 82.0))
        ])
    store = [('a.json', record)]
    found, = verdicts(store, 'kd', 'compressed')
    assert (found.baseline, found.difference) == ('student alone', 2.0)
    assert verdicts(store, 'kd', 'student alone')[0].baseline == 'float'


def test_tuning_is_no_row_and_only_the_newest_settings_count():
    store = run(
        'kd', {
            1: 99.0,
            2: 99.0
        }, config_hash='old') + run(
            'kd', {1: 80.0}, config_hash='new')
    tuning = run('kd', {11: 50.0}, config_hash='new')
    tuning[0][1].settings['tuning'] = True
    row, = make_rows(store + tuning)
    assert row.scores == {1: 80.0}


def test_names_cannot_end_the_script_of_the_page():
    rows = make_rows(run('</script><b>', {1: 80.0}))
    page = render_dashboard(rows, lambda row: [], str)
    assert page.count('</script>') == 1
    assert '"name":"<\\/script><b>"' in page


def test_an_unknown_table_of_a_page():
    text = '<!-- table x, by tools/benchmarks/report.py -->\n<!-- end -->\n'
    with pytest.raises(ValueError, match="p.md: no table 'x'; there are"):
        fill_tables(text, [], str, 'p.md')


def test_every_record_points_to_what_is_there():
    store = ROOT / 'docs' / 'results'
    for name, record in read_store(store):
        assert not record.log or (store / record.log).exists(), name
        assert not record.config or (ROOT / record.config).is_file(), name


def test_percent_is_what_the_comparison_counts_in():
    for task in Table(ROOT).tasks.values():
        assert task.scale == to_percent(task.metric)


@pytest.mark.parametrize('stem, methods', [
    ('fgd_retinanet_mini', ['FGD']),
    ('tf_nkd_resnet_mini', ['tf-NKD']),
    ('lsq_kd_resnet50_w8_a8_in1k', ['LSQ', 'KD']),
    ('vitkd_nkd_deit_mini', ['ViTKD', 'NKD']),
])
def test_methods_of_a_config(stem, methods):
    assert methods_of(stem, ROOT) == methods


@pytest.mark.parametrize('config, bits, methods', [
    ('lsq/lsq_resnet_w4_a4_mini', 'w4a4', ['LSQ']),
    ('xnor/xnor_r18_mini', 'w1a1', ['XNOR-Net']),
    ('kd/kd_resnet_mini_student', 'float', []),
])
def test_a_network_says_its_bits(config, bits, methods):
    network = network_of(ROOT / 'configs' / f'{config}.py', ROOT)
    assert (network.bits, network.methods) == (bits, methods)
    assert network.task == 'classification'


def test_the_dashboard_and_the_page_of_the_comparison_agree():
    table = Table(ROOT)
    rows = make_rows(read_store(ROOT / 'docs' / 'results'))
    baselines = Baselines(rows, table.compared_with, table.float_of)
    records = Records(ROOT / 'docs' / 'results' / 'mini.json').read()
    words = {
        'no clear difference': 'within noise',
        'too few seeds': 'one seed'
    }
    seen = 0
    for row in (row for row in rows if row.source == 'mini.json'):
        summaries = summarize(records, row.group)
        other = table.compared_with(row.group, row.method)
        if not is_origin(row.method) and other in summaries:
            says = verdict(summaries[other], summaries[row.method])
            found = {v.baseline: v.says for v in baselines.of(row)}
            # of what was trained once, the page says nothing
            if says and other != row.method:
                assert found[other] == words.get(says, says), row.method
                seen += 1
    assert seen > 20
