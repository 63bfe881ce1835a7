import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

import mmcompress.compat  # noqa: F401
from compat.interpreter import python


def test_importing_is_light_and_may_be_repeated():
    loaded, finders, schemes = python("""
import importlib, json, sys
import mmcompress.compat
importlib.reload(mmcompress.compat)
from mmengine.runner import CheckpointLoader
print(json.dumps([
    [m for m in ('torchvision', 'mmcv', 'mmdet', 'mmpose') if m in sys.modules],
    [type(f).__name__ for f in sys.meta_path].count('_TorchvisionFinder'),
    ['__wrapped__' in vars(getattr(loader, '__wrapped__', loader))
     for loader in CheckpointLoader._schemes.values()]]))
""")  # noqa: E501
    assert loaded == []
    assert finders == 1
    assert not any(schemes)


def test_mmcompress_can_be_the_base_of_a_config(tmp_path, monkeypatch):
    package = tmp_path / 'mmcompress'
    (package / '.mim' / 'configs' / 'folder').mkdir(parents=True)
    (package / '.mim' / 'configs' / 'folder' / 'base.py').write_text('a = 1')
    (package / '.mim' / 'model-index.yml').write_text('Import: []')
    monkeypatch.setattr('mmengine.config.config.get_installed_path',
                        lambda name: str(package))
    config = tmp_path / 'config.py'
    config.write_text("_base_ = 'mmcompress::folder/base.py'")
    assert Config.fromfile(config).a == 1
    monkeypatch.delitem(MODULE2PACKAGE, 'mmcompress')
    with pytest.raises(AssertionError, match='mmcompress'):
        Config.fromfile(config)
