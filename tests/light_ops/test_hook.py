import importlib
import subprocess
import sys
from importlib.util import module_from_spec
from pathlib import Path

import pytest

from mmcompress.light_ops import ext, hook

ROOT = Path(__file__).parents[2]
LINE = 'import mmcompress.light_ops.hook as _l; _l.install(chosen=True)'


@pytest.fixture
def finders(monkeypatch):
    """The list of finders, without ours and restored afterwards."""
    others = [f for f in sys.meta_path if not isinstance(f, hook._Finder)]
    monkeypatch.setattr(sys, 'meta_path', others)
    monkeypatch.delenv(hook.VARIABLE, raising=False)
    return others


@pytest.fixture
def bare_mmcv(finders, tmp_path, monkeypatch):
    """A module mmcv without operators instead of the installed one."""
    for name in list(sys.modules):
        if name.split('.')[0] == 'mmcv':
            monkeypatch.delitem(sys.modules, name)
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop('mmcv._ext', None)


def test_without_a_choice_nothing_is_found(bare_mmcv):
    hook.install()
    with pytest.raises(ModuleNotFoundError, match='mmcv._ext'):
        importlib.import_module('mmcv._ext')


def test_the_environment_chooses(bare_mmcv, finders):
    hook.install(chosen=True)
    hook.install(chosen=True)
    assert isinstance(finders[-1], hook._Finder) and len(
        [f for f in finders if isinstance(f, hook._Finder)]) == 1
    module = importlib.import_module('mmcv._ext')
    assert module.nms is ext.nms and module.__name__ == 'mmcv._ext'
    assert hook.in_use()


def test_a_compiled_module_is_preferred(bare_mmcv):
    (bare_mmcv / 'mmcv' / '_ext.py').write_text('nms = 1')
    hook.install(chosen=True)
    assert importlib.import_module('mmcv._ext').nms == 1
    assert not hook.in_use()


@pytest.mark.parametrize('value, chosen, found', [
    ('1', False, True),
    ('0', True, False),
    ('', True, True),
])
def test_the_variable_overrules(finders, monkeypatch, value, chosen, found):
    monkeypatch.setenv(hook.VARIABLE, value)
    hook.install(chosen=chosen)
    assert any(isinstance(f, hook._Finder) for f in finders) is found


def test_the_variable_is_0_or_1(finders, monkeypatch):
    monkeypatch.setenv(hook.VARIABLE, 'yes')
    with pytest.raises(ValueError, match='MMCOMPRESS_LIGHT_OPS=yes'):
        hook.install()


def test_mmcompress_compat_offers_them_by_the_variable(finders, monkeypatch):
    monkeypatch.setenv(hook.VARIABLE, '1')
    import mmcompress.compat
    importlib.reload(mmcompress.compat)
    assert any(isinstance(f, hook._Finder) for f in finders)


def test_installing_imports_nothing():
    code = (
        f'import sys; {LINE}; print([m for m in ("torch", "numpy", "mmcv", '
        '"mmengine") if m in sys.modules])')
    found = subprocess.check_output([sys.executable, '-c', code],
                                    cwd=ROOT,
                                    text=True)
    assert found == '[]\n'


def test_every_operator_that_mmcv_loads_is_there_or_refuses():
    spec = hook._Finder().find_spec('mmcv._ext')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    # mmcv asks for names when it is imported, and calls them later
    from mmcv.ops.carafe import ext_module
    assert hasattr(ext_module, 'carafe_forward')
    assert hasattr(module, 'carafe_forward')
    with pytest.raises(NotImplementedError, match='carafe_forward.*MMCV_WITH'):
        module.carafe_forward(1, x=2)
    with pytest.raises(AttributeError, match='__path__'):
        module.__path__
    for name in ext.__all__:
        assert getattr(module, name) is getattr(ext, name)


@pytest.mark.skipif(hook.in_use(), reason='needs the compiled mmcv')
def test_names_and_arguments_are_mmcvs():
    from inspect import signature

    from mmcv import _ext as compiled
    for name in ext.__all__:
        # pybind's first line is `name(first: type, ...) -> type`
        line = getattr(compiled, name).__doc__.splitlines()[0]
        arguments = [
            part.split(':')[0]
            for part in line[line.index('(') + 1:line.rindex(')')].split(', ')
            if part
        ]
        assert list(signature(getattr(ext, name)).parameters) == arguments


def test_the_set_up_writes_the_line():
    text = (ROOT / 'tools' / 'dev' / 'setup_venv.py').read_text()
    assert LINE.replace('True', '{light}') in text


def test_choosing_writes_the_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('sysconfig.get_path', lambda name: str(tmp_path))
    hook.main()
    assert (tmp_path / hook.PTH).read_text() == LINE + '\n'
    assert str(tmp_path) in capsys.readouterr().out
