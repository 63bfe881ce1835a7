import pytest
import torch
from distill.models import batch, build, detection_scope, distill, retinanet
from mmengine.registry import MODELS, DefaultScope

from mmcompress.distill.classes import classes_at, differing_names
from mmcompress.model.data import TrainingData

ABC = ('cat', 'dog', 'person')


def classifier(num_classes):
    return dict(
        type='ImageClassifier',
        _scope_='mmpretrain',
        data_preprocessor=dict(type='ClsDataPreprocessor'),
        backbone=dict(type='ResNet', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=num_classes, in_channels=512))


def taught(tmp_path,
           num_classes=3,
           names=ABC,
           meta=None,
           losses=None,
           **kwargs):
    """A student of a teacher with these classes."""
    path = str(tmp_path / 'teacher.pth')
    cfg = retinanet(num_classes=num_classes)
    meta = meta or dict(dataset_meta=dict(classes=names))
    torch.save(dict(state_dict=build(cfg).state_dict(), meta=meta), path)
    return build(
        distill(
            teacher=dict(cfg=cfg, checkpoint=path), losses=losses, **kwargs))


def loss_at(student, teacher=None):
    return dict(
        loss_x=dict(
            type='mmcompress.CWDLoss',
            student=student,
            teacher=teacher or student))


@pytest.fixture
def said(monkeypatch):
    """What is printed as a warning."""
    texts = []

    def keep(text, logger=None, level=None):
        texts.append(text)

    monkeypatch.setattr('mmcompress.distill.classes.print_log', keep)
    return texts


MEETINGS = [
    dict(init_student=['bbox_head']),
    dict(init_student=['neck', 'bbox_head.retina_cls']),
    dict(losses=loss_at('bbox_head[0]')),
    dict(losses=loss_at('bbox_head.retina_cls')),
]


@pytest.mark.parametrize('kwargs', MEETINGS)
def test_the_same_classes_in_another_order_are_named(kwargs, said, tmp_path):
    model = taught(tmp_path, names=ABC, **kwargs)
    model.distill.teacher.student_data = TrainingData(
        classes=('person', 'cat', 'dog'))
    model.init_weights()
    text, = said
    assert 'cat, dog, person, by its checkpoint' in text
    assert "student's are person, cat, dog" in text
    assert 'same in another order' in text
    assert next(iter(kwargs.get('losses', ['init_student']))) in text


@pytest.mark.parametrize('kwargs', MEETINGS)
def test_other_numbers_are_refused(kwargs, said, tmp_path):
    model = taught(tmp_path, num_classes=4, names=(*ABC, 'bus'), **kwargs)
    with pytest.raises(
            ValueError,
            match='student tells 3 classes apart and the teacher 4.*bus'):
        model.init_weights()


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(init_student=['neck', 'bbox_head.cls_convs', 'bbox_head.reg_convs']),
    dict(losses=loss_at('bbox_head[1]')),
    dict(losses=loss_at('bbox_head@input')),
    dict(losses=loss_at('bbox_head.retina_reg')),
])
def test_what_knows_no_classes_may_have_any(kwargs, said, tmp_path):
    model = taught(tmp_path, num_classes=5, names=list('abcde'), **kwargs)
    model.distill.teacher.student_data = TrainingData(classes=ABC)
    model.init_weights()
    with detection_scope():
        model(**batch(model), mode='loss')
    assert not said


def test_equal_classes_need_no_word(said, tmp_path):
    model = taught(
        tmp_path, names=('Cat', 'dog ', 'person'), init_student=['bbox_head'])
    model.distill.teacher.student_data = TrainingData(classes=ABC)
    model.init_weights()
    assert not said


def test_classes_that_only_the_teacher_names_are_told(said, tmp_path):
    taught(tmp_path, init_student=['bbox_head']).init_weights()
    assert 'cat, dog, person' in said[0] and 'not known here' in said[0]


@pytest.mark.parametrize('meta', [
    dict(CLASSES=ABC),
    dict(dataset_meta=dict(CLASSES=ABC)),
    dict(
        dataset_meta=dict(keypoint_id2name={
            0: 'cat',
            1: 'dog',
            2: 'person'
        }))
])
def test_they_are_found_where_older_versions_put_them(meta, said, tmp_path):
    taught(tmp_path, meta=meta, init_student=['bbox_head']).init_weights()
    assert 'cat, dog, person' in said[0]


def test_checkpoints_that_name_none_are_fine(said, tmp_path):
    taught(
        tmp_path, meta=dict(epoch=1),
        init_student=['bbox_head']).init_weights()
    assert not said


@pytest.mark.parametrize('config, path, numbers', [
    ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'roi_head', {80}),
    ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'rpn_head', set()),
    ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
     'roi_head.bbox_head.fc_cls', {80}),
    ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
     'roi_head.bbox_head.shared_fcs.0', set()),
    ('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
     'decode_head.conv_seg', {19}),
    ('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
     'decode_head.bottleneck', set()),
    ('mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192'
     '.py', 'head', {17}),
    ('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'head.fc', {1000}),
    ('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'backbone', set()),
])  # yapf: disable
def test_classes_of_heads_of_the_libraries(config, path, numbers):
    from mmcompress.model.config import build_model, read_config
    cfg = read_config(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg)
    assert classes_at(model, path) == numbers


def test_long_lists_are_cut_and_the_first_difference_is_named():
    names = [f'class {i}' for i in range(1000)]
    text = differing_names(names, [*names[:500], 'x', *names[501:]])
    assert 'class 19 and 980 more' in text
    assert "Label 500 is 'class 500' to the teacher and 'x'" in text


def test_classifiers(said, tmp_path):
    path = str(tmp_path / 'teacher.pth')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(classifier(4))
        torch.save(dict(state_dict=teacher.state_dict()), path)
        model = MODELS.build(
            dict(
                type='mmcompress.Distill',
                student=classifier(3),
                teacher=dict(cfg=classifier(4), checkpoint=path),
                losses=dict(
                    loss_kd=dict(
                        type='mmcompress.KDLoss',
                        student='head',
                        teacher='head.fc'))))
        with pytest.raises(ValueError, match='losses.loss_kd: the student t'):
            model.init_weights()
