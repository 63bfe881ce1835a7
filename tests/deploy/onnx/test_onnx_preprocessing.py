"""Images as a pipeline gives them, prepared and classified in a file."""
import copy

import pytest
import torch
from tiny import SIZE, build

from mmcompress.deploy.onnx import (FilePredictor, Session, WholeNetwork,
                                    compare_predictions, export)
from mmcompress.deploy.onnx.postprocess import made_up
from mmcompress.deploy.onnx.postprocess.operators import suppress
from mmcompress.deploy.onnx.postprocess.preprocessing import Preprocessing

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


@torch.no_grad()
def test_a_file_prepares_images_and_classifies_them():
    model = build(bits=8)
    exported = export(model, SIZE, postprocess=True, preprocessing=True)
    graph = onnx.load_from_string(exported.proto).graph
    assert [x.name for x in graph.output] == ['scores', 'labels']
    shape = graph.input[0].type.tensor_type
    assert shape.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in shape.shape.dim] == [1, *SIZE, 3]
    network = exported.network
    predictor = FilePredictor(network, model, Session(exported.proto))
    found = compare_predictions(predictor, model, made_up(network, model, 4))
    assert found.images == found.equal == 4 and found.score < 0.001


def test_preparing_is_that_of_the_data_preprocessor():
    preprocessor = build().data_preprocessor
    prepare = Preprocessing(preprocessor, (16, 20))
    image = prepare.example()[:, :12, :17]
    maps, size = prepare(image)
    expected = preprocessor(dict(inputs=image.permute(0, 3, 1, 2)))['inputs']
    assert torch.equal(maps[..., :12, :17], expected)
    assert not maps[..., 12:, :].any() and not maps[..., 17:].any()
    assert size.tolist() == [12, 17]


def test_preprocessing_alone_is_refused():
    with pytest.raises(ValueError, match='together with the predictions'):
        export(build(), SIZE, preprocessing=True)


def test_an_image_of_another_size_is_refused():
    network = WholeNetwork(copy.deepcopy(build()), SIZE, preprocessing=True)
    image = torch.zeros(1, 9, 9, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match='12 x 16, and one is 9 x 9'):
        network.reads(image)


def test_nothing_to_suppress():
    boxes = torch.rand(4, 4)
    assert suppress(boxes, torch.full((4, ), -1.), 0.5, 3).shape == (0, )


def test_the_best_boxes_are_kept():
    boxes = torch.tensor([[0., 0, 4, 4], [0, 0, 4, 3], [9, 9, 12, 12],
                          [9, 9, 11, 12]])
    scores = torch.tensor([0.5, 0.9, 0.1, -1])
    assert suppress(boxes, scores, 0.5, 9).tolist() == [1, 2]
    assert suppress(boxes, scores, 0.5, 1).tolist() == [1]
    assert suppress(boxes, scores, 0.8, 9).tolist() == [1, 0, 2]
