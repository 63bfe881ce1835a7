import pytest
from compat.interpreter import python
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmcompress.compat import find_renamed_packages


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
    assert schemes and not any(schemes)


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


def test_a_library_may_come_from_another_distribution(tmp_path, monkeypatch):
    # as onedl-mmsegmentation brings mmseg, or with nothing but a path
    configs = tmp_path / 'mmaction' / '.mim' / 'configs' / 'folder'
    configs.mkdir(parents=True)
    (tmp_path / 'mmaction' / '__init__.py').touch()
    (configs / 'base.py').write_text('a = 1')
    (configs / '../../model-index.yml').write_text('Import: []')
    config = tmp_path / 'config.py'
    config.write_text("_base_ = 'mmaction::folder/base.py'")
    with pytest.raises(Exception, match='mmaction2'):
        Config.fromfile(config)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MODULE2PACKAGE, 'mmaction', 'mmaction2')
    find_renamed_packages()
    assert Config.fromfile(config).a == 1


def test_every_library_can_be_a_base():
    for base in ('mmdet', 'mmpose', 'mmpretrain', 'mmseg'):
        cfg = Config.fromstring(
            f"_base_ = '{base}::_base_/default_runtime.py'", '.py')
        assert cfg.default_scope == base


def test_what_is_not_installed_keeps_the_name_to_install():
    assert 'mmaction2' == MODULE2PACKAGE['mmaction']
