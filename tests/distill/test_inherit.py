import pytest
import torch
from distill.models import build, distill, retinanet


def test_named_parts_start_from_the_teacher():
    model = build(distill(init_student=['neck.fpn_convs', 'bbox_head']))
    model.init_weights()
    teacher = model.distill.teacher.model.state_dict()
    for key, value in model.state_dict().items():
        if key.startswith(('neck.fpn_convs', 'bbox_head')):
            assert torch.equal(value, teacher[key]), key
    assert not torch.equal(model.neck.lateral_convs[0].conv.weight,
                           teacher['neck.lateral_convs.0.conv.weight'])


def test_the_table_tells_what_was_skipped(caplog, capsys):
    from mmcompress.distill.inherit import inherit
    student, teacher = build(retinanet()), build(retinanet(num_classes=5))
    rows = inherit(student, teacher, ['bbox_head', 'neck'])
    part, num, copied, skipped = rows[0]
    assert (part, num, copied) == ('bbox_head', 8, 6)
    assert skipped[0] == ('bbox_head.retina_cls.weight: (5, 16, 3, 3) in the '
                          'teacher, (3, 16, 3, 3) in the student')
    assert rows[1][3] == []


def test_inherits_only_once():
    model = build(distill(init_student=['neck']))
    model.init_weights()
    with torch.no_grad():
        model.neck.fpn_convs[0].conv.bias.fill_(7)
    model.init_weights()
    assert (model.neck.fpn_convs[0].conv.bias == 7).all()


def test_a_part_of_which_nothing_fits():
    model = build(distill(init_student=['nek']))
    with pytest.raises(ValueError, match="nothing of 'nek' can be copied"):
        model.init_weights()


def test_a_part_is_not_what_only_begins_like_it():
    from mmcompress.distill.inherit import inherit
    student, teacher = build(retinanet()), build(retinanet(), seed=1)
    for model in (student, teacher):
        model.add_module('neck2', torch.nn.Linear(2, 2))
    before = student.neck2.weight.clone()
    rows = inherit(student, teacher, ['neck', 'neck.fpn_convs.1'])
    assert torch.equal(student.neck2.weight, before)
    num = len(student.neck.state_dict())
    assert [row[1] for row in rows] == [num, 2]
