"""Pictures of all tasks, with what was right and what was found."""
import numpy as np
import pytest
from PIL import Image
from results.models import classifier, detector, mini

from mmcompress.results import Form, Subject, side_by_side_picture
from mmcompress.results.picture import _threshold, _titles
from mmcompress.results.scenes import SCENES
from mmcompress.results.subjects import load, validation_data

# through whole models and files: beside the suite
pytestmark = [pytest.mark.slow, pytest.mark.gate]

MAKE = dict(
    mmdet=detector,
    mmpretrain=classifier,
    mmseg=lambda folder: mini(folder, 'seg', 'cwd/cwd_pspnet_mini_student.py'),
    mmpose=lambda folder: mini(folder, 'pose', 'dwpose/dwpose_student_mini.py')
)


@pytest.mark.parametrize('library', MAKE)
def test_every_task_has_a_picture(library, tmp_path):
    config, checkpoint = MAKE[library](tmp_path)
    subjects = [
        Subject('float', config, checkpoint),
        Subject('compressed', config, checkpoint, 'w8a8')
    ]
    side_by_side_picture(subjects, tmp_path / 'picture.png', 1)
    picture = np.asarray(Image.open(tmp_path / 'picture.png').convert('RGB'))
    height, width, _ = picture.shape
    # as it was drawn, both forms are one model: two columns are equal
    third = width // 3
    middle, last = picture[:, third:2 * third], picture[:, -third:]
    rows = slice(height // 3, height)
    assert picture[rows, :third].std() > 10 and middle[rows].std() > 10
    found = [
        np.abs(middle[rows].astype(int) - np.roll(last[rows], k, 1)).mean()
        for k in range(-3, 4)
    ]
    assert min(found) < 12


def test_images_with_most_objects_come_first(tmp_path):
    config, checkpoint = detector(tmp_path)
    one = load(Subject('float', config, checkpoint))
    loader = validation_data(one.cfg, alone=True).loader
    scenes = SCENES['mmdet'](loader, 3)
    numbers = [len(truth) for truth in scenes.truths()]
    counts = [
        len(loader.dataset.get_data_info(i)['instances'])
        for i in range(len(loader.dataset))
    ]
    assert numbers == sorted(counts)[::-1][:3]
    # boxes are where the enlarged objects are
    assert all(max(i.shape) == 480 for i in scenes.images)
    info = loader.dataset.get_data_info(scenes.indices[0][0])
    np.testing.assert_allclose(
        scenes.truths()[0].bboxes,
        scenes.scales[0] * np.array([o['bbox'] for o in info['instances']]),
        rtol=1e-5)


def test_the_least_score_is_lower_for_a_model_that_is_unsure():
    scores = [np.array([0.1, 0.2]), np.array([0.05])]
    assert _threshold(scores, 2) == pytest.approx(0.1)
    assert _threshold(scores, 9) == pytest.approx(0.05)
    assert _threshold([np.array([0.9, 0.8])], 2) == 0.3
    assert _threshold([np.array([])], 2) == 0.3


def test_titles_are_names_and_metrics(tmp_path):
    config, checkpoint = classifier(tmp_path)
    one = load(Subject('packed', config, checkpoint, 'w1a1'))
    form = Form('packed', metrics={'accuracy/top1': 92.75})
    assert _titles([one], [form],
                   '') == ['ground truth\n', 'packed, w1a1\ntop-1 92.8 %']
    assert _titles([one], [], '') == ['ground truth', 'packed, w1a1']


def test_other_tasks_are_refused(tmp_path):
    config, checkpoint = classifier(tmp_path)
    one = load(Subject('float', config, checkpoint))
    one.cfg.default_scope = 'mmagic'
    with pytest.raises(ValueError, match="'mmagic'.*mmdet, mmseg"):
        side_by_side_picture([one], tmp_path / 'a.png')
