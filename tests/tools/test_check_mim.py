import importlib.util
from pathlib import Path

import pytest

import mmcompress

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools' / 'dev' / 'check_mim.py'
    spec = importlib.util.spec_from_file_location('check_mim', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_configs_are_there(tool):
    folder = tool.config_folder()
    for config, student, _ in tool.RUNS.values():
        assert (folder / config).is_file() and (folder / student).is_file()


def test_an_installed_package_brings_its_own(tool, tmp_path, monkeypatch):
    configs = tmp_path / 'mmcompress' / '.mim' / 'configs'
    configs.mkdir(parents=True)
    monkeypatch.setattr(mmcompress, '__file__',
                        str(tmp_path / 'mmcompress' / '__init__.py'))
    assert tool.config_folder() == configs


def test_every_project_that_trains_on_a_cpu_is_tried(tool):
    found = {p.parent.name for p in ROOT.glob('projects/*/README.md')}
    # one of ImageNet, to copy
    assert found - {'example_project'} == set(tool.PROJECTS)
    for name, (_, config, _) in tool.PROJECTS.items():
        assert (ROOT / 'projects' / name / 'configs' / config).is_file()
