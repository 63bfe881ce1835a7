"""Tables of results: rounded, compared with the first form."""
from dataclasses import replace

import pytest
from results.examples import latency, record

from mmcompress.results import Form, table
from mmcompress.results.tables import (faster, form_rows, metric_text,
                                       of_weights, part_rows, three_digits)


@pytest.mark.parametrize('value, text', [(0.12345, '0.123'), (1.2345, '1.23'),
                                         (12.345, '12.3'), (123.45, '123'),
                                         (9.999, '10.0'), (99.97, '100'),
                                         (12345.6, '12,346')])
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


def test_rows_compare_with_the_first_form():
    head, (first, second) = form_rows(record())
    cells = dict(zip(head, second))
    assert cells['box AP'] == '40.9' and cells['difference'] == '-0.3'
    assert cells['parameters'] == '11.2 M' and cells['file, MB'] == '11.2'
    assert cells['smaller'] == '4.0 x'
    assert cells['latency, ms [95 %]'] == '60.4 [54.4, 72.5]'
    assert cells['times as fast'] == '2.04 x'
    assert dict(zip(head, first))['difference'] == '-'


def test_what_was_not_measured_is_a_dash():
    bare = record(forms=[Form('float'), Form('packed', bits='w1a1')])
    _, rows = form_rows(bare)
    assert rows[1][2:] == ['-'] * len(rows[1][2:])
    assert 'packed' in table(bare)


def test_latencies_of_other_calls_are_not_compared():
    base, form = record().forms
    other = replace(form, latency=replace(form.latency, threads=8))
    assert faster(other, base) == '-'
    assert faster(form, base) != '-'


def test_the_text_has_remarks_data_machine_and_parts():
    text = table(record())
    for part in ('slower; left <float>', '200 images of cells', 'some CPU',
                 'Where the time goes', 'backbone', '40 rounds'):
        assert part in text.replace('\n', ' '), part
    assert max(map(len, text.splitlines())) <= 120


def test_parts_that_a_form_lacks_are_dashes():
    head, rows = part_rows(
        [Form('a', latency=latency(3, rest=1., head=2.)),
         Form('b')])
    assert head == ['form', 'head', 'rest'] and len(rows) == 1
    head, rows = part_rows(record().forms)
    assert rows[0] == ['float', '100', '-', '23.4']


def test_titles_of_pictures_have_the_numbers_of_the_table():
    form = record().forms[1]
    assert metric_text(form, 'coco/bbox_mAP') == 'box AP 40.9'
    assert metric_text(form, 'mIoU') == ''
    assert of_weights(999) == '999' and of_weights(44_450) == '44.5 k'
