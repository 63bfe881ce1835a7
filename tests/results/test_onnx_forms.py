"""A file of ONNX is measured as the model that it was written of."""
import pytest
from results.models import classifier

from mmcompress.deploy.onnx import export, metadata_of
from mmcompress.results import Subject, measure_forms
from mmcompress.results.subjects import load

pytestmark = [pytest.mark.slow, pytest.mark.gate]
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


@pytest.fixture(scope='module')
def subjects(tmp_path_factory):
    """A classifier, and its file."""
    folder = tmp_path_factory.mktemp('onnx')
    config, checkpoint = classifier(folder)
    one = load(Subject('float', config, checkpoint))
    exported = export(one.model, (32, 32),
                      metadata_of(one.cfg, one.model, (32, 32), {}))
    (folder / 'model.onnx').write_bytes(exported.proto)
    return [
        one.subject,
        Subject('onnx', config, checkpoint, onnx=str(folder / 'model.onnx'))
    ]


def test_metric_size_and_time_are_those_of_the_file(subjects, tmp_path):
    plain, onnx = measure_forms(
        subjects, rounds=7, progress=lambda items, what: items,
        remark=lambda text: None)  # yapf: disable
    assert onnx.metrics == plain.metrics
    assert onnx.bytes == len(open(subjects[1].onnx, 'rb').read())
    assert set(onnx.latency.parts) == {'onnxruntime', 'rest'}
    assert onnx.latency.parts['onnxruntime'] > 0


def test_a_file_of_others_is_refused(subjects, tmp_path):
    import onnx
    model = onnx.load(subjects[1].onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / 'other.onnx')
    with pytest.raises(ValueError, match='which size of images'):
        load(
            Subject('onnx', *[subjects[0].config, subjects[0].checkpoint],
                    onnx=str(tmp_path / 'other.onnx')))  # yapf: disable
