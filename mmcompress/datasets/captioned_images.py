"""Images that share captions, as a dataset for retrieval in mmpretrain."""
import json
from pathlib import Path

from mmpretrain.datasets.base_dataset import BaseDataset

from mmcompress.registry import DATASETS


@DATASETS.register_module()
class CaptionedImages(BaseDataset):
    """Images with a caption each, which several may share.

    Its items are those of mmpretrain's retrieval datasets, for
    ``RetrievalTestLoop`` and ``RetrievalRecall``:

    - In training, an image and its caption. Images of one caption have one
      ``image_id``: all of them are right for it.
    - With ``test_mode=True``, an image, and all captions that are right for
      it. Each caption is a text once, ``text`` of one of the items; they are
      spread evenly over these.

    Args:
        ann_file (str): A JSON file with ``captions``, a list of texts, and
            ``images``, a list of ``dict(file=..., caption=...)``, with paths
            below ``data_root`` and numbers of captions.
        **kwargs: Of mmpretrain's ``BaseDataset``.
    """

    def __init__(self, ann_file: str, **kwargs) -> None:
        kwargs.setdefault('data_prefix', '')
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the file."""
        content = json.loads(Path(self.ann_file).read_text(encoding='utf-8'))
        captions, images = content['captions'], content['images']
        self.img_size, self.text_size = len(images), len(captions)
        items = [
            dict(
                img_path=str(Path(self.data_root, image['file'])),
                text=captions[image['caption']],
                text_id=image['caption'],
                image_id=image['caption'],
                is_matched=True) for image in images
        ]
        if not self.test_mode:
            return items
        if len(captions) > len(images):
            raise ValueError(
                f'{self.ann_file}: {len(captions)} captions of {len(images)} '
                'images; each caption needs an image that it is right for')
        images_of = [[] for _ in captions]
        for i, image in enumerate(images):
            images_of[image['caption']].append(i)
        step = len(images) // len(captions)
        for i, item in enumerate(items):
            number, offset = divmod(i, step)
            is_text = offset == 0 and number < len(captions)
            item.update(
                image_id=i,
                gt_text_id=[item['text_id']],
                text=[captions[number]] if is_text else [],
                gt_image_id=[images_of[number]] if is_text else [])
        return items
