"""The mini detection data, on disk in the COCO and the VOC format."""
import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .digits import CLASSES, PALETTE, Scene, draw_scene, load_material
from .masks import encode_mask
from .mini_data import MiniData, check_size, save_jpeg


def _voc_xml(name: str, scene: Scene) -> str:
    height, width = scene.image.shape[:2]
    root = ET.Element('annotation')
    ET.SubElement(root, 'filename').text = f'{name}.jpg'
    size = ET.SubElement(root, 'size')
    for key, value in dict(width=width, height=height, depth=3).items():
        ET.SubElement(size, key).text = str(value)
    for label, (x1, y1, x2, y2) in zip(scene.labels, scene.boxes):
        instance = ET.SubElement(root, 'object')
        ET.SubElement(instance, 'name').text = CLASSES[label]
        ET.SubElement(instance, 'difficult').text = '0'
        box = ET.SubElement(instance, 'bndbox')
        # VOC names the first and the last pixel, and counts from 1
        corners = dict(xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
        for key, value in corners.items():
            ET.SubElement(box, key).text = str(value)
    ET.indent(root)
    return ET.tostring(root, encoding='unicode') + '\n'


def _coco_json(names: list[str], scenes: list[Scene]) -> str:
    images, annotations = [], []
    for image_id, (name, scene) in enumerate(zip(names, scenes), start=1):
        height, width = scene.image.shape[:2]
        images.append(
            dict(
                id=image_id,
                file_name=f'{name}.jpg',
                width=width,
                height=height))
        for label, (x1, y1, x2, y2), ink in zip(scene.labels, scene.boxes,
                                                scene.masks):
            w, h = x2 - x1, y2 - y1
            mask = np.zeros((height, width), bool)
            mask[y1:y2, x1:x2] = ink
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=[x1, y1, w, h],
                    # of the box, as mmdet has it where it makes the json
                    area=w * h,
                    segmentation=encode_mask(mask),
                    iscrowd=0))
    categories = [
        dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)
    ]
    return json.dumps(
        dict(images=images, annotations=annotations, categories=categories))


@dataclass(frozen=True)
class MiniDetection(MiniData):
    """Handwritten digits on photos, to detect and read.

    The files::

        annotations/{train,val}.json     COCO, with masks
        Annotations/000001.xml ...       VOC
        ImageSets/Main/{train,val}.txt   VOC
        JPEGImages/000001.jpg ...        both

    An image depends on the seed, its split and its number only: the first
    ones are the same however many there are.

    Args:
        num_train (int): Images for training.
        num_val (int): Images for validation.
        width (int): Of an image, in pixels.
        height (int): Of an image, in pixels.
        seed (int): Of everything random.
    """
    task = 'detection'
    version = 3
    streams = dict(train=0, val=1)

    num_train: int = 1000
    num_val: int = 200
    width: int = 160
    height: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # the largest digit and the largest crop must fit
        check_size(self.width, self.height, (128, 170), (128, 320))

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""
        return dict(classes=CLASSES, palette=PALETTE)

    def make(self, split: str, index: int) -> Scene:
        """Draw a picture."""
        return draw_scene(
            self.random_numbers(split, index),
            load_material()[split], self.width, self.height)

    def write(self, folder: Path) -> None:
        """Draw everything and write it."""
        subfolders = [
            folder / 'annotations', folder / 'Annotations',
            folder / 'ImageSets/Main', folder / 'JPEGImages'
        ]
        for subfolder in subfolders:
            subfolder.mkdir(parents=True)
        annotations, xml, image_sets, images = subfolders
        num_written = 0
        for split in ('train', 'val'):
            scenes = self.make_split(split, show_progress=True)
            names = [
                f'{num_written + i:06d}' for i in range(1, 1 + len(scenes))
            ]
            num_written += len(scenes)
            for name, scene in zip(names, scenes):
                save_jpeg(scene.image, images / f'{name}.jpg')
                (xml / f'{name}.xml').write_text(_voc_xml(name, scene))
            (image_sets / f'{split}.txt').write_text('\n'.join(names) + '\n')
            (annotations / f'{split}.json').write_text(
                _coco_json(names, scenes))
