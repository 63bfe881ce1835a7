"""Forms are measured by their own evaluator, file and clock."""
import os

import pytest
import torch
from results.models import classifier

from mmcompress.analysis.subject import build_subject
from mmcompress.deploy.file.checkpoint import write_packed
from mmcompress.deploy.file.config import packed_config
from mmcompress.deploy.twins import pack
from mmcompress.model.config import read_config
from mmcompress.model.testing import measure
from mmcompress.results import Subject, measure_forms
from mmcompress.results.subjects import load, state_dict_bytes
from mmcompress.results.timing import num_rounds

# through whole models and files: beside the suite
pytestmark = [pytest.mark.slow, pytest.mark.gate]

ONE_BIT = '''
_base_ = './classifier.py'
model = dict(_delete_=True, type='mmcompress.Compress', model=_base_.model,
             steps=[dict(type='mmcompress.ReplaceConvs',
                         conv_cfg=dict(type='mmcompress.XNORConv2d'),
                         include=['backbone.layer2'])])
'''


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Float classifier, and a 1-bit one, trained and packed."""
    return tmp_path_factory.mktemp('measure')


@pytest.fixture(scope='module')
def subjects(folder):
    config, checkpoint = classifier(folder)
    one_bit = folder / 'one_bit.py'
    one_bit.write_text(ONE_BIT)
    cfg = read_config(str(one_bit))
    model = build_subject(cfg, checkpoint)
    write_packed(
        pack(model)[1], packed_config(cfg), {}, folder / 'packed.pth', [])
    return [
        Subject('float', config, checkpoint),
        Subject('compressed', str(one_bit), checkpoint, 'w1a1'),
        Subject('packed', str(folder / 'packed.py'),
                str(folder / 'packed.pth'), 'w1a1')
    ]  # yapf: disable


@pytest.fixture(scope='module')
def measured(subjects):
    remarks = []
    forms = measure_forms(
        subjects,
        rounds=7,
        progress=lambda items, what: items,
        remark=remarks.append)
    return forms, remarks


def test_the_metric_is_that_of_the_evaluator(subjects, measured):
    for subject, form in zip(subjects, measured[0]):
        loaded = load(subject)
        expected = measure(loaded.cfg, loaded.model)
        assert form.metrics == pytest.approx(expected)
    assert list(form.metrics) == ['accuracy/top1']


def test_weights_are_counted_however_they_are_stored(subjects, measured):
    plain, trained, packed = measured[0]
    model = load(subjects[0]).model
    assert plain.parameters == sum(p.numel() for p in model.parameters())
    convs = sum(m.weight.numel() for m in load(subjects[1]).model.modules()
                if isinstance(m, torch.nn.Conv2d))  # yapf: disable
    assert convs < packed.parameters <= trained.parameters


def test_bytes_are_those_of_a_file_with_nothing_else(folder, subjects,
                                                     measured):
    plain, trained, packed = measured[0]
    torch.save(
        dict(state_dict=load(subjects[0]).model.state_dict()),
        folder / 'alone.pth')
    assert plain.bytes == pytest.approx(
        os.path.getsize(folder / 'alone.pth'), rel=0.05)
    assert packed.bytes == os.path.getsize(folder / 'packed.pth')
    assert state_dict_bytes({}) < 2000


def test_parts_add_up_to_the_median(measured):
    for form in measured[0]:
        latency = form.latency
        assert latency.low <= latency.median <= latency.high
        assert sum(latency.parts.values()) == pytest.approx(
            latency.median, rel=0.01)
        assert {'backbone', 'neck', 'head', 'rest'} == set(latency.parts)
        assert latency.size == [32, 32] and latency.rounds == 7
        assert latency.threads == torch.get_num_threads()


@pytest.mark.parametrize(
    'data, reason',
    [('', 'so it has no metric'),
     ("val_dataloader = dict(dataset=dict(type='CustomDataset', "
      "data_prefix='/gone', pipeline=[]))\n"
      "val_evaluator = dict(type='Accuracy')\n", '/gone')])
def test_without_data_there_are_remarks_and_noise(folder, subjects, data,
                                                  reason):
    model, _, _ = (folder / 'classifier.py').read_text().partition('val_')
    (folder / 'no_data.py').write_text(model + data)
    remarks = []
    form, = measure_forms(
        [Subject('float', str(folder / 'no_data.py'), subjects[0].checkpoint)],
        rounds=6, progress=lambda items, what: items,
        remark=remarks.append)  # yapf: disable
    assert form.metrics == {} and form.latency.median > 0
    assert 'float: no metric, since' in remarks[0] and reason in remarks[0]
    assert 'on an image of noise, since' in remarks[1]


def test_slow_calls_get_fewer_rounds():
    assert num_rounds(0.001) == 100
    assert num_rounds(0.2) == 50
    assert num_rounds(1) == 20
    assert num_rounds(6) == 10
    assert num_rounds(100) == 7


def test_weights_of_another_model_are_refused(subjects, folder):
    torch.save(dict(state_dict={}), folder / 'empty.pth')
    with pytest.raises(RuntimeError, match='not of this config'):
        load(Subject('float', subjects[0].config, str(folder / 'empty.pth')))
