import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from tokenizers_offline import needs_transformers

from mmcompress.datasets import (MiniCaptions, ensure_mini_data,
                                 ensure_vocabulary)
from mmcompress.datasets.captions import CAPTIONS, PLACES
from mmcompress.datasets.vocabulary import words

CONFIG = Path(__file__).parents[2] / 'configs/_base_/mini_clip.py'
SIZE = dict(num_train=100, num_val=170)


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('cache')
        patch.setenv('MMCOMPRESS_CACHE', str(folder))
        yield folder


def dataset_of(loader: str):
    cfg = Config.fromfile(CONFIG)[loader].dataset
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dict(cfg, settings=SIZE))


def test_captions_are_those_of_the_pictures():
    assert len(set(CAPTIONS)) == 80
    scenes = MiniCaptions(**SIZE).make_split('val')
    heights = dict(small=[], large=[])
    for i, scene in enumerate(scenes):
        size, digit, place = CAPTIONS[i % 80].split(' ', 2)
        (x1, y1, x2, y2), = scene.boxes
        assert 0 <= x1 and 0 <= y1 and x2 <= 32 and y2 <= 32
        assert (x1 + x2 > 32) == (PLACES[place][0] > 0.5)
        assert (y1 + y2 > 32) == (PLACES[place][1] > 0.5)
        heights[size].append(max(y2 - y1, x2 - x1))
        assert ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
                'eight', 'nine')[scene.labels[0]] == digit
    assert np.mean(heights['small']) + 5 < np.mean(heights['large'])
    few = MiniCaptions(num_train=3, num_val=1).make_split('val')
    assert np.array_equal(few[0].image, scenes[0].image)


def test_in_training_images_of_a_caption_belong_together():
    dataset = dataset_of('train_dataloader')
    assert len(dataset) == 100
    first, again = dataset[3], dataset[83]
    assert first['inputs'].shape == (3, 32, 32)
    for item in (first, again):
        assert item['data_samples'].text == CAPTIONS[3]
        assert item['data_samples'].image_id == 3
    assert not (first['inputs'] == again['inputs']).all()


def test_to_be_tested_each_caption_is_there_once():
    dataset = dataset_of('val_dataloader')
    assert (dataset.img_size, dataset.text_size) == (170, 80)
    samples = [dataset[i]['data_samples'] for i in range(170)]
    texts = [text for sample in samples for text in sample.text]
    assert texts == list(CAPTIONS)
    assert [s.image_id for s in samples] == list(range(170))
    assert all(CAPTIONS[s.gt_text_id[0]] == CAPTIONS[i % 80]
               for i, s in enumerate(samples))
    right = [ids for sample in samples for ids in sample.gt_image_id]
    assert right[4] == [4, 84, 164] and right[79] == [79, 159]


def test_few_pictures_have_few_captions():
    folder = ensure_mini_data('captions', num_train=3, num_val=2)
    captions = json.loads((folder / 'val.json').read_text())['captions']
    assert captions == list(CAPTIONS[:2])


@pytest.mark.parametrize('wrong, named', [(dict(num_val=0), 'num_val'),
                                          (dict(size=100), '100')])
def test_impossible_settings_are_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        MiniCaptions(**wrong)


def test_a_vocabulary_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="'bert', 'clip'"):
        ensure_vocabulary('gpt')


@needs_transformers
def test_each_word_is_a_token():
    from transformers import AutoTokenizer
    for kind in ('clip', 'bert'):
        tokenizer = AutoTokenizer.from_pretrained(
            str(ensure_vocabulary(kind)), use_fast=False)
        numbers = tokenizer.convert_tokens_to_ids(
            tokenizer.tokenize(' '.join(words())))
        assert len(set(numbers)) == len(words()) == len(numbers)
        vocabulary = tokenizer.get_vocab()
        if kind == 'clip':
            # CLIP finds the end of a text by it
            assert max(vocabulary, key=vocabulary.get) == '<|endoftext|>'
