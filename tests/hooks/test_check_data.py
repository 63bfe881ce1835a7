"""A training stops where its labels cannot be what was meant."""
import json
import logging
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset

from mmcompress.hooks import CheckDataHook
from mmcompress.hooks.check_data import check_dataset, inner_datasets


class Boxes(BaseDataset):
    """Boxes by their labels, images that cannot be loaded."""

    def __init__(self, *images, classes=('cat', 'dog'), indices=None, **info):
        self.images, self.info = images, info
        super().__init__(
            metainfo=dict(classes=classes),
            pipeline=[load],
            indices=indices,
            # mmengine cannot join the bytes of no image
            serialize_data=bool(images))

    def load_data_list(self):
        return [
            dict(
                img_path=f'{i}.jpg',
                instances=[
                    dict(bbox_label=abs(label), ignore_flag=int(label < 0))
                    for label in labels
                ],
                **self.info) for i, labels in enumerate(self.images)
        ]


class Images(BaseDataset):
    """Labels of whole images."""

    def __init__(self, *labels, classes=('cat', 'dog'), folders=None):
        self.labels, self.folder_to_idx = labels, folders
        super().__init__(metainfo=dict(classes=classes))

    def load_data_list(self):
        return [dict(gt_label=label) for label in self.labels]


class Persons(BaseDataset):
    """Persons with so many keypoints."""

    def __init__(self, count, visible=1, num_keypoints=17):
        self.count, self.visible = count, visible
        super().__init__(metainfo=dict(num_keypoints=num_keypoints))

    def load_data_list(self):
        visible = np.full((1, self.count), self.visible)
        keypoints = np.zeros((1, self.count, 2))
        return [dict(keypoints=keypoints, keypoints_visible=visible)]


def load(info):
    raise ZeroDivisionError('odd pixels')


def train(dataset, val=None, **options):
    """What the hook does with a run on these datasets."""

    def loop(dataset):
        return SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))

    CheckDataHook(**options).before_train(
        SimpleNamespace(train_loop=loop(dataset), val_loop=val and loop(val)))


@pytest.fixture
def messages(caplog, monkeypatch):
    """Texts of what is printed."""
    texts = []
    monkeypatch.setattr(
        'mmcompress.hooks.check_data.print_log',
        lambda text, level=logging.INFO, **_: texts.append(
            (logging.getLevelName(level), text)))
    return texts


def test_counts_are_printed(messages):
    train(Boxes([0, 1], [1, -1], []))
    assert messages == [('INFO', 'train_dataloader.dataset: 3 labels in 3 of '
                         '3 images: cat 1, dog 2')]


def test_large_datasets_are_looked_at_in_part(messages, monkeypatch):
    monkeypatch.setattr('mmcompress.hooks.check_data.MOST_IMAGES', 2)
    train(Boxes([0], [1], [0], [1], [0]))
    assert messages == [('INFO', 'train_dataloader.dataset: 2 labels in 2 of '
                         '5 images: cat 1, dog 1')]
    # a dog may be among the others
    messages.clear()
    train(Boxes([0], [1], [0], [0], [1]))
    assert messages == [('INFO', 'train_dataloader.dataset: 2 labels in 2 of '
                         '5 images: cat 2, dog 0')]


@pytest.mark.parametrize('images, reason', [
    ([[], []], 'boxes without area'),
    ([[-1, -1], [-1]], '3 boxes are marked as difficult or crowds'),
])
def test_no_box_is_an_error(images, reason):
    with pytest.raises(ValueError) as error:
        train(Boxes(*images))
    text = str(error.value)
    assert f'none of {len(images)} images has a box or label of ' \
        "metainfo.classes ('cat', 'dog')" in text
    assert reason in text and 'only_warn=True' in text


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match='no image is left'):
        train(Boxes())


def test_an_error_can_be_made_a_warning(messages):
    train(Boxes([]), only_warn=True)
    (level, text), = messages
    assert level == 'WARNING' and 'none of 1 images' in text


def test_a_few_images_may_have_no_box(messages):
    train(Boxes([], [0], indices=1))
    (level, text), = messages
    assert level == 'WARNING' and 'chosen by indices' in text


def test_validation_data_is_looked_at():
    with pytest.raises(ValueError, match='val_dataloader.dataset: none of 1'):
        train(Boxes([0, 1]), Boxes([]))


def test_background_beside_other_images_is_a_warning(messages):
    train(ConcatDataset([Boxes([0, 1]), Boxes([])]))
    assert ('WARNING' in dict(messages)
            and 'datasets.1: none of' in dict(messages)['WARNING'])


def test_classes_without_a_box_are_warned_of(messages):
    train(Boxes([0], [0]))
    assert messages[0] == ('WARNING', 'train_dataloader.dataset: no box or '
                           "label of 'dog'")


@pytest.mark.parametrize(
    'dataset', [Boxes([0, 2]),
                Images(0, 2), Images([0, 1], [2])])
def test_a_label_without_a_class_is_an_error(dataset):
    with pytest.raises(ValueError, match='label 2 is none of the 2'):
        check_dataset('here', dataset)


def test_images_with_several_labels_are_counted(messages):
    train(Images([0, 1], [1], []))
    assert messages[0][1].endswith('cat 1, dog 2')


@pytest.mark.parametrize('dataset', [
    Boxes([], segments_info=[]),
    Images(None, None),
])
def test_other_tasks_are_left_alone(dataset):
    train(dataset)


def test_folders_are_numbered_by_their_names():
    folders = dict(cat=0, dog=1)
    check_dataset('here', Images(0, 1, folders=folders))
    # names for readers
    check_dataset('here', Images(0, 1, folders=dict(n01=0, n02=1)))
    with pytest.raises(
            ValueError, match="label 0 is the folder 'cat' and is "
            "called 'dog'"):
        check_dataset('here',
                      Images(0, 1, classes=('dog', 'cat'), folders=folders))


def test_number_of_keypoints():
    check_dataset('here', Persons(17))
    with pytest.raises(ValueError, match=r'have \[133\] keypoints.*names 17'):
        check_dataset('here', Persons(133))
    with pytest.raises(ValueError, match='no keypoint is annotated'):
        check_dataset('here', Persons(17, visible=0))


def test_other_classes_in_validation_are_warned_of(messages):
    train(Boxes([0, 1]), Boxes([0, 1], classes=('cat', 'eel')))
    assert messages[-1] == (
        'WARNING', 'the classes of train_dataloader.dataset and '
        "val_dataloader.dataset differ from label 1 on: 'dog'; 'eel'")


def test_the_file_that_cannot_be_loaded_is_named():
    dataset = Boxes([0, 1])
    train(RepeatDataset(dataset, 2))
    # worker processes may be started with a copy
    for item in (dataset, pickle.loads(pickle.dumps(dataset))):
        with pytest.raises(
                RuntimeError,
                match=r'^0\.jpg could not be loaded '
                'or augmented: ZeroDivisionError: odd pixels'):
            item[0]


def test_the_file_that_is_empty_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / '0.jpg').touch()
    dataset = Boxes([0, 1])
    train(dataset)
    with pytest.raises(RuntimeError, match='0.jpg .*the file is empty'):
        dataset[0]


def test_datasets_of_others_are_left_alone():
    assert not list(inner_datasets([1, 2, 3], 'here'))
    train([1, 2, 3], None)


def coco(folder, classes, kind=None):
    from mmdet.datasets import CocoDataset
    box = dict(image_id=1, bbox=[1, 1, 30, 30], area=900)
    (folder / 'a.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='a.jpg', height=60, width=80)],
                annotations=[
                    dict(box, id=1, category_id=7),
                    dict(box, id=2, category_id=90)
                ],
                categories=[dict(id=7, name='cat'),
                            dict(id=90, name='dog')])))
    return (kind or CocoDataset)(
        data_root=str(folder),
        ann_file='a.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=classes))


@pytest.mark.parametrize('classes, message', [
    (('dog', 'cat'), "label 0 means 'cat' and is called 'dog'"),
    (('cats', 'dog'), "label 0 means 'dog' and is called 'cats'"),
    (('Cat', 'Dog'), 'none of metainfo.classes is in'),
])
def test_names_of_coco_datasets(tmp_path, classes, message):
    check_dataset('here', coco(tmp_path, ('cat', 'dog')))
    with pytest.raises(ValueError, match=message):
        check_dataset('here', coco(tmp_path, classes))


def test_names_of_data_sets_that_mmdet_knows_are_its_own(tmp_path):
    from mmdet.datasets import CocoDataset

    class Known(CocoDataset):
        METAINFO = dict(classes=('dog', 'cat'))

    check_dataset('here', coco(tmp_path, ('dog', 'cat'), Known))
    with pytest.raises(ValueError, match="label 0 means 'dog'"):
        check_dataset('here', coco(tmp_path, ('cats', 'dog'), Known))


def voc(folder, classes):
    from mmdet.datasets import VOCDataset
    for part in ('Annotations', 'ImageSets'):
        (folder / part).mkdir(exist_ok=True)
    (folder / 'ImageSets/train.txt').write_text('a\n')
    corners = ''.join(f'<{corner}>{place}</{corner}>'
                      for corner, place in (('xmin', 10), ('ymin', 10),
                                            ('xmax', 40), ('ymax', 40)))
    size = '<size><width>80</width><height>60</height></size>'
    (folder / 'Annotations/a.xml').write_text(
        f'<annotation>{size}<object><name>cat</name><bndbox>{corners}'
        '</bndbox></object></annotation>')
    return VOCDataset(
        data_root=str(folder),
        ann_file='ImageSets/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=classes))


def test_names_of_voc_datasets(tmp_path, messages):
    check_dataset('here', voc(tmp_path, ('cat', )))
    with pytest.raises(ValueError, match=r"'Cat' \(closest: 'cat'\)"):
        check_dataset('here', voc(tmp_path, ('Cat', )))
    messages.clear()
    check_dataset('here', voc(tmp_path, ('cat', 'dog')))
    assert "does not name 'dog'" in messages[0][1]
