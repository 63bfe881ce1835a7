"""What annotation files say, read without building a dataset."""
import difflib
import json
import mmap
import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence

# larger files are trusted: parsing COCO's takes ten seconds
_MOST_BYTES = 2**26
_CATEGORIES = re.compile(rb'"categories"\s*:\s*')
# what mmdet's CocoDataset needs of an image and of a box
_KEYS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area')
}


def listed(names: Iterable, most: int = 10) -> str:
    """Names in quotes, the first ones of many."""
    names = list(names)
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return (', '.join(repr(name) for name in names[:most]) or 'none') + rest


def closest(name: str, names: Iterable[str]) -> str:
    """A remark on the name that may be meant, or nothing."""
    folded = {other.strip().casefold(): other for other in names}
    found = difflib.get_close_matches(name.strip().casefold(), folded, 1)
    return f' (closest: {folded[found[0]]!r})' if found else ''


def check_images(paths: Iterable[str]) -> None:
    """Check that no image that is there is an empty file.

    Raises:
        ValueError: Names the first ones.
    """
    empty = [
        path for path in paths
        if os.path.isfile(path) and not os.path.getsize(path)
    ]
    if empty:
        raise ValueError(
            f'{len(empty)} images are empty files: {listed(empty)}. Copy them '
            'again, or take them out of the annotations')


def check_json(path: str) -> list[str]:
    """Check that a COCO file is whole, and a small one complete.

    Returns:
        list[str]: Names of its images; of a large file none.

    Raises:
        ValueError: If not; names the file and what is missing in it.
    """
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
        start = file.read(1024).lstrip(b'\xef\xbb\xbf \t\r\n')
        file.seek(max(0, size - 1024))
        end = file.read().rstrip()
    if not start.startswith(b'{') or not end.endswith(b'}'):
        raise ValueError(
            f'{path} is not a COCO file: it is '
            f'{"empty" if not size else "cut off or no JSON object"} '
            f'({size} bytes)')
    if size > _MOST_BYTES:
        return []
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except ValueError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    for part in ('images', 'annotations', 'categories'):
        if not isinstance(content.get(part), list):
            raise ValueError(f'{path} is not a COCO file: it has no list '
                             f'{part!r}, but {listed(content)}')
    for part, keys in _KEYS.items():
        for item in content[part]:
            lacking = [key for key in keys if key not in item]
            if lacking:
                raise ValueError(
                    f'{path}: of the {part}, the one with id '
                    f'{item.get("id")!r} lacks {listed(lacking)}; '
                    f'CocoDataset needs {listed(keys)}')
    return [image['file_name'] for image in content['images']]


def coco_categories(path: str) -> dict[int, str]:
    """Names of the categories of a COCO file by id, in its order.

    Only their list is parsed, which takes a moment in a file of any size.

    Args:
        path (str): The file.

    Returns:
        dict[int, str]: Empty if it has no such list.
    """
    if not os.path.getsize(path):
        return {}
    with open(path, 'rb') as file, mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in _CATEGORIES.finditer(content):
            # those of LVIS take less than a megabyte
            text = content[match.end():match.end() + 2**24]
            try:
                items, _ = json.JSONDecoder().raw_decode(
                    text.decode('utf-8', 'ignore'))
                return {item['id']: item['name'] for item in items}
            except (ValueError, KeyError, TypeError):
                continue  # a key of that name somewhere else
    return {}


def xml_names(paths: Iterable[str]) -> Counter:
    """How many boxes of each name VOC's files have.

    Raises:
        ValueError: If a file is missing or no XML; names it.
    """
    names: Counter = Counter()
    for path in paths:
        try:
            root = ET.parse(path).getroot()
        except (OSError, ET.ParseError) as error:
            raise ValueError(f'{path} cannot be read: {error}') from error
        names.update(item.findtext('name') for item in root.findall('object'))
    return names


def check_classes(where: str, classes: object) -> None:
    """Check that the classes are a list of names.

    Raises:
        ValueError: If they are one name, whose letters would be the classes.
    """
    if isinstance(classes, str) and not os.path.isfile(classes):
        raise ValueError(
            f'{where}.metainfo.classes is the text {classes!r}, not a list of '
            f'names; for one class write classes=({classes!r}, )')


def check_found(where: str, classes: Sequence[str], found: Iterable[str],
                path: str) -> str:
    """Check that annotations name at least one of the classes.

    Args:
        where (str): Config key of the dataset.
        classes (Sequence[str]): As in its ``metainfo``.
        found (Iterable[str]): Names in the annotations.
        path (str): Where these are.

    Returns:
        str: A warning of those that they don't name, empty if there are none.

    Raises:
        ValueError: If they name none.
    """
    found = [str(name) for name in found]
    unused = [name for name in found if name not in classes]
    lacking = [name for name in classes if name not in found]
    if not lacking:
        return ''
    text = ', '.join(
        repr(name) + closest(name, unused) for name in lacking[:10])
    text += f' and {len(lacking) - 10} more' if len(lacking) > 10 else ''
    if len(lacking) == len(classes):
        raise ValueError(
            f'{where}: none of metainfo.classes is in {path}: {text}. There '
            f'are {listed(found)}, compared with their case and blanks. '
            'Correct metainfo.classes')
    return (f'{where}: of metainfo.classes, {path} does not name {text}. It '
            f'also names {listed(unused)}, which are left out')


def check_coco_names(where: str, classes: Sequence[str], path: str) -> str:
    """Check that labels mean the classes that they are called.

    mmdet's CocoDataset numbers those categories of the file that are among
    the classes, in the order of the file.

    Args:
        where (str): Config key of the dataset.
        classes (Sequence[str]): As in its ``metainfo``.
        path (str): The COCO file.

    Returns:
        str: As :func:`check_found`.

    Raises:
        ValueError: If the file has none of them, or a label is called by
            another name than it means.
    """
    names = list(coco_categories(path).values())
    if not names:
        return ''
    warning = check_found(where, classes, names, path)
    meant = [name for name in names if name in classes]
    for label, (name, called) in enumerate(zip(meant, classes)):
        if name == called:
            continue
        lacking = [text for text in classes if text not in names]
        reason = (f'{listed(lacking)} of metainfo.classes is not in it, and '
                  'the labels behind it shift' if lacking else
                  'the order of metainfo.classes does not matter')
        right = meant if len(meant) <= 100 else meant[:100] + ['...']
        raise ValueError(
            f'{where}: label {label} means {name!r} and is called {called!r}. '
            f'CocoDataset numbers the categories of {path} in their order '
            f'there; {reason}. Write metainfo=dict(classes={tuple(right)})')
    return warning
