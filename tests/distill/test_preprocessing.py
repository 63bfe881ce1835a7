"""What the teacher sees; more in test_teacher.py."""
import pytest
import torch
from distill.models import build, detection_scope, distill, retinanet
from mmdet.models import DetDataPreprocessor
from mmengine.structures import PixelData
from mmpose.models import PoseDataPreprocessor
from mmpose.structures import PoseDataSample
from mmpretrain.models import ClsDataPreprocessor
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from mmcompress.distill.preprocessing import network_order, renormalize
from mmcompress.distill.teacher import Teacher
from mmcompress.model.data import TrainingData

CIFAR = dict(mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255])
FILES = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def seen(preprocessor, images, data_samples=None):
    data = dict(inputs=list(images), data_samples=data_samples)
    return preprocessor(data, True)


@pytest.fixture
def rgb():
    return torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)


def test_a_teacher_of_arrays_gets_what_it_was_trained_on(rgb):
    """CIFAR's arrays are RGB and files are BGR; both networks see RGB."""
    student = ClsDataPreprocessor(to_rgb=True, **FILES)
    teacher = ClsDataPreprocessor(to_rgb=False, **CIFAR)
    convert = renormalize(student, teacher, 'bgr', 'rgb')
    torch.testing.assert_close(
        convert(seen(student, rgb.flip(1))['inputs'], None),
        seen(teacher, rgb)['inputs'],
        rtol=1e-4,
        atol=1e-4)


def test_a_student_of_arrays_hands_a_teacher_what_it_was_trained_on(rgb):
    student = ClsDataPreprocessor(to_rgb=False, **CIFAR)
    teacher = ClsDataPreprocessor(to_rgb=False, **FILES)
    convert = renormalize(student, teacher, 'rgb', 'bgr')
    torch.testing.assert_close(
        convert(seen(student, rgb)['inputs'], None),
        seen(teacher, rgb.flip(1))['inputs'],
        rtol=1e-4,
        atol=1e-4)


@pytest.mark.parametrize('say, order', [('rgb', 'rgb'), ('bgr', 'bgr'),
                                        ('same', 'rgb'), ('reversed', 'bgr')])
def test_a_user_can_say_which_order_the_teacher_wants(say, order, rgb):
    student = ClsDataPreprocessor(to_rgb=True, **FILES)
    teacher = ClsDataPreprocessor(to_rgb=False, **CIFAR)
    convert = renormalize(student, teacher, 'bgr', None, say)
    expected = rgb if order == 'rgb' else rgb.flip(1)
    torch.testing.assert_close(
        convert(seen(student, rgb.flip(1))['inputs'], None),
        seen(teacher, expected)['inputs'],
        rtol=1e-4,
        atol=1e-4)


def test_an_order_that_is_needed_and_not_known_is_asked_for():
    turning = ClsDataPreprocessor(to_rgb=True, **FILES)
    leaving = ClsDataPreprocessor(to_rgb=False, **CIFAR)
    with pytest.raises(ValueError, match="channel_order to 'rgb' or 'bgr'"):
        renormalize(turning, leaving)
    with pytest.raises(ValueError, match="channel_order to 'rgb' or 'bgr'"):
        renormalize(ClsDataPreprocessor(to_rgb=False, **FILES), leaving, 'bgr')
    with pytest.raises(ValueError, match="to 'same' or 'reversed'"):
        renormalize(leaving, turning)


def test_an_order_is_not_asked_for_where_all_is_equal():
    leaving = ClsDataPreprocessor(to_rgb=False, **CIFAR)
    turning = ClsDataPreprocessor(to_rgb=True, **FILES)
    for order in (None, 'rgb', 'bgr'):
        for preprocessor in (leaving, turning):
            assert renormalize(preprocessor, preprocessor, order, None) is None


def test_equal_preprocessors_of_other_data_differ():
    leaving = ClsDataPreprocessor(to_rgb=False, **CIFAR)
    assert renormalize(leaving, leaving, 'rgb', 'bgr') is not None
    assert renormalize(leaving, leaving, 'rgb', 'rgb') is None


def test_channels_turn_without_any_normalization(rgb):
    student = ClsDataPreprocessor(to_rgb=True)
    teacher = ClsDataPreprocessor(to_rgb=False)
    convert = renormalize(student, teacher, 'bgr', 'bgr')
    torch.testing.assert_close(
        convert(seen(student, rgb)['inputs'], None),
        seen(teacher, rgb)['inputs'].float())


def test_gray_images_have_no_order():
    """Nobody is asked for it, whichever of the two says that they are gray."""
    raw, gray = ClsDataPreprocessor(), ClsDataPreprocessor(
        mean=[100.0], std=[50.0])
    images = torch.full((2, 1, 4, 4), 200.0)
    assert (renormalize(raw, gray, 'bgr')(images, None) == 2).all()
    assert (renormalize(gray, raw, 'bgr')(images / 100, None) == 200).all()


def test_what_a_network_gets():
    turning = ClsDataPreprocessor(to_rgb=True)
    leaving = ClsDataPreprocessor(to_rgb=False)
    assert network_order(turning, 'bgr') == network_order(leaving, 'rgb')
    assert network_order(turning, 'rgb') == 'bgr'
    assert network_order(turning, None) == 'rgb'
    assert network_order(leaving, None) is None
    # mmdet reads files only
    assert network_order(DetDataPreprocessor(), None) == 'bgr'


def test_the_teachers_order_is_read_from_its_config():
    student = dict(
        type='ImageClassifier',
        _scope_='mmpretrain',
        data_preprocessor=dict(
            type='ClsDataPreprocessor', to_rgb=True, **FILES),
        backbone=dict(type='ResNet', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=512))
    teacher = Teacher(
        'mmpretrain::resnet/resnet18_8xb16_cifar10.py', allow_random=True)
    teacher.student_data = TrainingData('bgr')
    teacher.build(build(student), dict(loss='head'))
    raw = torch.rand(1, 3, 8, 8) * 255
    expected = (raw / 255 - torch.tensor(CIFAR['mean'])[:, None, None] / 255)
    expected = expected * 255 / torch.tensor(CIFAR['std'])[:, None, None]
    files = raw - torch.tensor(FILES['mean'])[:, None, None]
    files = files / torch.tensor(FILES['std'])[:, None, None]
    torch.testing.assert_close(
        teacher._convert(files, None), expected, rtol=1e-3, atol=1e-3)


# ---- missing and doubled ---------------------------------------------------


def bare():
    cfg = retinanet()
    cfg.pop('data_preprocessor')
    return cfg


def test_a_teacher_without_preprocessor_is_refused():
    model = build(distill(teacher=dict(cfg=bare(), allow_random=True)))
    with pytest.raises(ValueError, match='no `data_preprocessor`.*raw pixels'):
        model.init_weights()


@pytest.mark.parametrize('cfg', [
    dict(model=bare(), data_preprocessor=retinanet()['data_preprocessor']),
    dict(bare(), data_preprocessor=dict(type='DetDataPreprocessor')),
])  # yapf: disable
def test_it_may_stand_outside_of_the_model_or_do_nothing(cfg):
    model = build(distill(teacher=dict(cfg=cfg, allow_random=True)))
    with detection_scope():
        model.init_weights()
    assert model.distill.teacher.model is not None


def test_where_the_student_has_none_either_all_is_equal():
    teacher = dict(cfg=bare(), allow_random=True)
    model = build(distill(student=bare(), teacher=teacher))
    model.init_weights()
    assert model.distill.teacher._convert is None


@pytest.mark.parametrize(
    'mine, others, ok',
    [
        (None, None, True),
        ((), None, True),
        ((((1, ), (2, )), ), (), False),
        ((), (((1, ), (2, )), ), False),
        ((((1, ), (2, )), ), (((1, ), (2, )), ), True),
        # twice, once by the pipeline and once by the teacher's preprocessor
        ((((1, ), (2, )), ), None, False),
    ])
def test_pipelines_that_normalize_differently_are_refused(
        mine, others, ok, monkeypatch):
    teacher = Teacher(retinanet(), allow_random=True)
    teacher.student_data = TrainingData('bgr', mine)
    monkeypatch.setattr('mmcompress.distill.preprocessing.training_data',
                        lambda cfg: TrainingData('bgr', others))
    student = build(retinanet())
    with detection_scope():
        if ok:
            teacher.build(student, dict(loss='neck'))
        else:
            with pytest.raises(ValueError, match='`data_preprocessor` normal'):
                teacher.build(student, dict(loss='neck'))


# ---- padding ---------------------------------------------------------------


def test_padding_of_segmentation_is_the_teachers():
    """Mmseg names it pad_val, and says padding_size only."""
    images = [torch.rand(3, 20, 30) * 255, torch.rand(3, 32, 10) * 255]

    def sample(image):
        label = torch.zeros(1, *image.shape[1:], dtype=torch.long)
        # the file's shape, before it was scaled
        return SegDataSample(
            metainfo=dict(img_shape=(500, 500)),
            gt_sem_seg=PixelData(data=label))

    def preprocessor(pad_val, **kwargs):
        return SegDataPreProcessor(
            size=(32, 40), pad_val=pad_val, bgr_to_rgb=True, **kwargs)

    student, teacher = preprocessor(0, **FILES), preprocessor(7, **CIFAR)
    data = seen(student, images, [sample(image) for image in images])
    expected = seen(teacher, images, [sample(image) for image in images])
    assert (expected['inputs'][0, :, 20:] == 7).all()
    torch.testing.assert_close(
        renormalize(student, teacher)(data['inputs'], data['data_samples']),
        expected['inputs'],
        rtol=1e-4,
        atol=1e-4)


@pytest.mark.parametrize('original', [(10, 8), (200, 300)])
def test_a_crop_of_a_pose_is_not_taken_for_padding(original):
    """Mmpose's img_shape is that of the image before it was cropped."""
    image = torch.rand(3, 30, 24) * 255

    def sample():
        return PoseDataSample(
            metainfo=dict(img_shape=original, input_size=(24, 30)))

    def preprocessor(pad_value, **kwargs):
        return PoseDataPreprocessor(
            pad_size_divisor=16, pad_value=pad_value, **kwargs)

    student, teacher = preprocessor(0, **FILES), preprocessor(5, **CIFAR)
    data = seen(student, [image], [sample()])
    expected = seen(teacher, [image], [sample()])['inputs']
    assert expected.shape[2:] == (32, 32) and (expected[:, :, 30:] == 5).all()
    torch.testing.assert_close(
        renormalize(student, teacher)(data['inputs'], data['data_samples']),
        expected,
        rtol=1e-4,
        atol=1e-4)


@pytest.mark.parametrize('key', ['pad_value', 'pad_val'])
def test_padding_is_compared_by_either_name(key):
    kind = SegDataPreProcessor if key == 'pad_val' else DetDataPreprocessor
    size = dict(size=(8, 8)) if key == 'pad_val' else {}
    one, other = (kind(**size, **{key: value}, **FILES) for value in (0, 3))
    assert renormalize(one, one) is None
    assert renormalize(one, other) is not None
