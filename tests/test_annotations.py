"""Annotation files are checked before a library trips over them."""
import json

import pytest
from mmengine.config import Config

from mmcompress.annotations import (check_classes, check_coco_names,
                                    check_found, coco_categories)
from mmcompress.data_paths import check_data_paths

CATEGORIES = [dict(id=7, name='cat'), dict(id=90, name='dog')]
BOX = dict(id=1, image_id=1, category_id=7, bbox=[1, 1, 30, 30], area=900)
IMAGE = dict(id=1, file_name='a.jpg', height=60, width=80)


def coco(folder, classes=('cat', 'dog'), text=None, **content):
    """A config whose training data is a COCO file of one image."""
    content = dict(
        images=[IMAGE], annotations=[BOX], categories=CATEGORIES) | content
    (folder /
     'a.json').write_text(json.dumps(content) if text is None else text)
    dataset = dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='a.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=classes))
    return Config(dict(train_dataloader=dict(dataset=dataset)))


def voc(folder, name='cat', text=None, classes=('cat', 'dog')):
    """A config whose training data is a VOC folder of one image."""
    for part in ('Annotations', 'ImageSets', 'JPEGImages'):
        (folder / part).mkdir(exist_ok=True)
    (folder / 'ImageSets/train.txt').write_text('a\n')
    if text is None:
        text = f'<annotation><object><name>{name}</name></object></annotation>'
    (folder / 'Annotations/a.xml').write_text(text)
    dataset = dict(
        type='VOCDataset',
        data_root=str(folder),
        ann_file='ImageSets/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=classes))
    return Config(dict(train_dataloader=dict(dataset=dataset)))


def check(cfg):
    check_data_paths(cfg, ['train_dataloader'])


def test_what_is_right_passes(tmp_path):
    check(coco(tmp_path))
    check(voc(tmp_path))
    # not every file has a box of every class
    check(coco(tmp_path, classes=('cat', 'dog', 'eel')))


@pytest.mark.parametrize('text', ['', '{"images": [', '[]', '\n'])
def test_a_json_that_is_cut_off_is_named(tmp_path, text):
    with pytest.raises(ValueError, match=r'a\.json is not a COCO file'):
        check(coco(tmp_path, text=text))


def test_a_broken_json_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'a\.json is not valid JSON: .*line'):
        check(coco(tmp_path, text='{"images": [1 2]}'))


def test_missing_keys_are_named(tmp_path):
    box = {key: value for key, value in BOX.items() if key != 'area'}
    with pytest.raises(ValueError, match=r"a\.json.*id 1 lacks 'area'"):
        check(coco(tmp_path, annotations=[box]))
    with pytest.raises(ValueError, match=r"images.*id None lacks 'id'"):
        check(coco(tmp_path, images=[dict(IMAGE, id=0), dict(file_name='b')]))
    with pytest.raises(ValueError, match="no list 'annotations', but"):
        check(coco(tmp_path, annotations=None))


def test_a_missing_folder_of_images_is_named(tmp_path):
    cfg = coco(tmp_path)
    cfg.train_dataloader.dataset.pop('data_prefix')
    with pytest.raises(ValueError, match="data_prefix has no 'img'"):
        check(cfg)


def test_mmpose_has_a_coco_dataset_with_other_needs(tmp_path):
    box = {key: value for key, value in BOX.items() if key != 'area'}
    cfg = coco(tmp_path, annotations=[box])
    cfg.default_scope = 'mmpose'
    check(cfg)


@pytest.mark.parametrize('text', ['', '<annotation>', 'no xml'])
def test_a_broken_xml_is_named(tmp_path, text):
    with pytest.raises(ValueError, match=r'a\.xml cannot be read'):
        check(voc(tmp_path, text=text))


def test_a_missing_xml_is_named(tmp_path):
    cfg = voc(tmp_path)
    (tmp_path / 'Annotations/a.xml').unlink()
    with pytest.raises(ValueError, match=r'a\.xml cannot be read'):
        check(cfg)


def test_an_empty_image_is_named(tmp_path):
    cfg = voc(tmp_path)
    (tmp_path / 'JPEGImages/a.jpg').touch()
    with pytest.raises(ValueError, match=r'empty files: .*JPEGImages/a\.jpg'):
        check(cfg)
    cfg = coco(tmp_path)
    (tmp_path / 'a.jpg').touch()
    with pytest.raises(
            ValueError, match=r'1 images are empty files: .*a\.jpg'):
        check(cfg)


@pytest.mark.parametrize('make', [coco, voc])
def test_names_in_another_case_are_named(tmp_path, make):
    with pytest.raises(ValueError, match=r"'Cat' \(closest: 'cat'\)"):
        check(make(tmp_path, classes=('Cat', 'Dog')))


@pytest.mark.parametrize('make', [coco, voc])
def test_a_forgotten_comma_is_seen(tmp_path, make):
    with pytest.raises(ValueError, match=r"write classes=\('cat', \)"):
        check(make(tmp_path, classes=('cat')))


def test_classes_may_come_from_a_file(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('cat\ndog\n')
    check(coco(tmp_path, classes=str(path)))
    path.write_text('dog\ncat\n')
    with pytest.raises(ValueError, match="label 0 means 'cat'"):
        check(coco(tmp_path, classes=str(path)))


def names(folder, classes, categories=CATEGORIES):
    coco(folder, categories=categories)
    return check_coco_names('here', classes, str(folder / 'a.json'))


def test_labels_follow_the_order_of_the_file(tmp_path):
    with pytest.raises(
            ValueError,
            match="label 0 means 'cat' and is called "
            r"'dog'.*Write metainfo=dict\(classes=\('cat', 'dog'"):
        names(tmp_path, ['dog', 'cat'])
    # the ids don't matter
    assert names(tmp_path, ['dog', 'cat'], CATEGORIES[::-1]) == ''


def test_a_name_that_is_missing_shifts_the_ones_behind_it(tmp_path):
    with pytest.raises(
            ValueError,
            match="label 0 means 'dog' and is called "
            "'cats'.*'cats' of metainfo.classes is not in it"):
        names(tmp_path, ['cats', 'dog'])


def test_a_last_name_that_is_missing_is_warned_of(tmp_path):
    assert names(tmp_path, ['cat', 'dog']) == ''
    warning = names(tmp_path, ['cat', 'dogs'])
    assert "does not name 'dogs' (closest: 'dog')" in warning


def test_a_subset_of_the_file_is_all_right(tmp_path):
    assert names(tmp_path, ['dog']) == ''


def test_categories_are_found_in_any_place(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"info": {"categories": 3, "x": "\\"categories\\": ["},'
                    '"categories" : [{"id": 5, "name": "ä"}], "images": []}')
    assert coco_categories(str(path)) == {5: 'ä'}
    path.write_text('{}')
    assert coco_categories(str(path)) == {}
    path.write_text('')
    assert coco_categories(str(path)) == {}


def test_long_lists_are_cut():
    classes = [f'class {i}' for i in range(30)]
    with pytest.raises(
            ValueError, match=r"'class 9' and 20 more\. There are "
            "'other'"):
        check_found('here', classes, ['other'], 'file')


def test_one_name_is_no_list():
    with pytest.raises(ValueError, match="here.metainfo.classes is the text"):
        check_classes('here', 'cat')
    check_classes('here', None)
