"""The full-size configs of the repository, by the metafiles."""
from dataclasses import dataclass
from pathlib import Path

from comparison.metafiles import read_metafiles

# what is trained here on made-up or on few data is no row of a paper
_SMALL = ('mini', 'cifar10_subset')


@dataclass(frozen=True)
class FullConfig:
    """A config for a paper's data.

    Args:
        config (str): Path in the checkout.
        collection (str): Its method, as in the metafile.
        data (str): Name of the data set.
        epochs (int | None): That it trains for.
        teacher (str): Name of the teacher; empty without one.
    """
    config: str
    collection: str
    data: str
    epochs: int | None
    teacher: str

    @property
    def stem(self) -> str:
        """Base name, unique in the repository."""
        return Path(self.config).stem

    @property
    def folder(self) -> str:
        """Of its method in ``configs``."""
        return Path(self.config).parent.name


def read_catalogue(root: Path) -> dict[str, FullConfig]:
    """All full-size configs, by base name, in the order of the metafiles.

    Args:
        root (Path): The checkout.
    """
    found = {}
    for _, content in read_metafiles(root):
        of_collection = {
            c['Name']: c['Metadata'].get('Training Data', '')
            for c in content['Collections']
        }
        for model in content['Models']:
            name, metadata = model['Name'], model.get('Metadata', {})
            data = metadata.get('Training Data',
                                of_collection[model['In Collection']])
            data = ', '.join(data) if isinstance(data, list) else data
            if any(part in name for part in _SMALL) or data == 'mini':
                continue
            entry = FullConfig(model['Config'], model['In Collection'], data,
                               metadata.get('Epochs'),
                               str(metadata.get('Teacher', '')))
            found[entry.stem] = entry
    return found
