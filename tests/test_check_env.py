import subprocess
import sys
from pathlib import Path

import pytest

from mmcompress import check_env
from mmcompress.check_env import (CONTINUED, CORE, LIBRARIES, PACKAGES,
                                  import_errors, make_rows, task_states)

TESTED = {package: version for package, (version, _) in PACKAGES.items()}
MISSING = "ModuleNotFoundError: No module named 'x'"


def check(changes=(), errors=()):
    """Rows by package, and states, of the tested environment but for ..."""
    versions = {**TESTED, **dict(changes)}
    errors = {PACKAGES[package][1]: text for package, text in errors}
    for package, version in versions.items():
        if version is None and package in PACKAGES:
            errors.setdefault(PACKAGES[package][1], MISSING)
    rows = make_rows(versions, errors)
    return dict(zip(PACKAGES, rows)), task_states(rows)


def test_the_tested_environment_is_ready():
    rows, tasks = check()
    assert not any(row.problem or row.remedy for row in rows.values())
    assert set(tasks.values()) == {'ready'}
    assert list(tasks) == [
        'detection', 'pose', 'classification', 'segmentation'
    ]


def test_nothing_at_all():
    rows, tasks = check({package: None for package in PACKAGES})
    for package, row in rows.items():
        assert row.found == '-'
        assert row.problem == 'missing' or package == 'setuptools'
        assert 'pip install' in row.remedy
    assert tasks['detection'] == 'not installed (mmdet)'


@pytest.mark.parametrize('package', CORE)
def test_nothing_is_ready_without_the_core(package):
    _, tasks = check({package: None})
    assert all(package in state for state in tasks.values())


@pytest.mark.parametrize('library, task', zip(LIBRARIES, check_env.TASKS))
def test_a_library_that_is_not_there_concerns_its_task_only(library, task):
    rows, tasks = check({library: None})
    assert rows[library].remedy == (
        f'pip install --no-deps {library}=={TESTED[library]}')
    assert tasks.pop(task) == f'not installed ({library})'
    assert set(tasks.values()) == {'ready'}


def test_a_need_that_is_missing():
    rows, tasks = check({'munkres': None},
                        [('mmpose', "ModuleNotFoundError: No module named "
                          "'munkres'")])
    assert rows['munkres'].remedy == 'pip install munkres'
    assert rows['mmpose'].remedy == 'first repair munkres'
    assert tasks['pose'] == 'not ready: mmpose, munkres'
    assert tasks['detection'] == 'ready'


def test_a_need_that_is_not_in_the_table():
    rows, _ = check(
        errors=[('mmdet', "ModuleNotFoundError: No module named 'six.moves'")])
    assert rows['mmdet'].remedy == 'pip install six'


def test_torchvision_without_its_operators_is_repaired():
    rows, tasks = check(
        errors=[('torchvision',
                 'RuntimeError: operator torchvision::nms does not exist')])
    assert not rows['torchvision'].problem
    assert 'python -m mmcompress.torchvision_repair' in rows[
        'torchvision'].remedy
    assert tasks['pose'] == 'ready'


def test_torchvision_that_breaks_otherwise_is_not():
    rows, tasks = check({'torch': '2.7.1+cu126'},
                        [('torchvision', 'OSError: libtorch_cuda.so')])
    assert '"torchvision==0.22.*"' in rows['torchvision'].remedy
    assert tasks['classification'] == 'not ready: torchvision'
    assert tasks['detection'] == 'ready'


@pytest.mark.parametrize('version, good', [('2.5.1', False), ('2.6.0', True),
                                           ('2.10.0+cpu', True)])
def test_old_torch_is_named(version, good):
    rows, _ = check({'torch': version})
    assert bool(rows['torch'].problem) is not good


def test_mmcv_without_operators():
    rows, tasks = check(
        errors=[('mmcv', "ModuleNotFoundError: No module named 'mmcv._ext'"),
                ('mmdet', "ModuleNotFoundError: No module named 'mmcv._ext'")])
    assert rows['mmcv'].problem == 'built without operators'
    for word in ('MMCV_WITH_OPS=1', '--no-build-isolation', '--no-cache-dir'):
        assert word in rows['mmcv'].remedy
    assert rows['mmdet'].remedy == 'first repair mmcv'
    assert tasks['detection'] == 'not ready: mmcv, mmdet'


def test_mmcv_lite_works_with_our_operators():
    rows, tasks = check({'mmcv': None, 'mmcv-lite': '2.1.0'}, [('mmcv', '')])
    row = rows['mmcv']
    assert (row.package, row.found, row.problem) == ('mmcv-lite', '2.1.0', '')
    assert set(tasks.values()) == {'ready'}


def test_mmcv_lite_without_operators():
    rows, tasks = check({
        'mmcv': None,
        'mmcv-lite': '2.1.0'
    }, [('mmcv', "ModuleNotFoundError: No module named 'mmcv._ext'")])
    assert 'no operators' in rows['mmcv'].problem
    assert rows['mmcv'].remedy.startswith(
        'python -m mmcompress.light_ops.hook')
    assert 'ready' not in tasks.values()


def test_mmcv_lite_that_is_broken_otherwise():
    rows, _ = check({'mmcv': None, 'mmcv-lite': '2.1.0'}, [('mmcv', MISSING)])
    assert rows['mmcv'].problem == MISSING
    rows, _ = check({'mmcv': None, 'mmcv-lite': '2.2.0'}, [('mmcv', '')])
    assert 'another version' in rows['mmcv'].problem


def test_mmcv_beside_mmcv_lite():
    rows, _ = check({'mmcv-lite': '2.1.0'})
    assert 'overwrite each other' in rows['mmcv'].problem
    assert 'uninstall -y mmcv mmcv-lite' in rows['mmcv'].remedy


def test_operator_state_names_who_has_them():
    assert check_env.operator_state() in (
        "mmcv's operators: compiled",
        "mmcv's operators: 21 of mmcompress.light_ops, in torch; the others "
        'need the compiled mmcv')


@pytest.mark.parametrize('version, good', [('2.2.0', False), ('2.1.0', True),
                                           ('2.0.1', True), ('1.7.2', False)])
def test_mmcv_outside_of_mmdets_range(version, good):
    rows, _ = check({'mmcv': version})
    assert bool(rows['mmcv'].problem) is not good
    assert good or 'mmdet and mmsegmentation want' in rows['mmcv'].problem


def test_mmcv_22_is_fine_where_nobody_refuses_it():
    rows, tasks = check({
        'mmcv': '2.2.0',
        'mmdet': None,
        'mmsegmentation': None
    })
    assert not rows['mmcv'].problem
    assert tasks['classification'] == 'ready'


def test_numpy_2_with_xtcocotools():
    error = 'ValueError: numpy.dtype size changed'
    rows, tasks = check({'numpy': '2.4.0'}, [('xtcocotools', error),
                                             ('mmpose', error)])
    assert rows['xtcocotools'].problem == 'is built for numpy 1'
    assert rows['xtcocotools'].remedy == 'pip install numpy==1.26.4'
    assert rows['mmpose'].remedy == 'first repair xtcocotools'
    assert not rows['numpy'].problem
    assert tasks['detection'] == 'ready'


def test_new_setuptools():
    rows, _ = check({'setuptools': '82.0.1'}, [
        ('setuptools', "ModuleNotFoundError: No module named 'pkg_resources'")
    ])
    assert rows['setuptools'].remedy == 'pip install "setuptools<82"'


@pytest.mark.parametrize('setuptools', ['82.0.1', None])
def test_pkg_resources_is_what_counts(setuptools):
    rows, _ = check({'setuptools': setuptools}, [('setuptools', '')])
    assert not rows['setuptools'].problem


def test_two_opencv_packages():
    rows, tasks = check({'opencv-python': '4.12.0.88'})
    row = rows['opencv-python-headless']
    assert 'opencv-python and opencv-python-headless' in row.problem
    assert row.remedy == (
        'pip uninstall -y opencv-python opencv-python-headless && '
        'pip install opencv-python-headless==4.11.0.86')
    assert 'ready' not in tasks.values()


def test_any_one_opencv_package_does():
    rows, _ = check(
        {
            'opencv-python-headless': None,
            'opencv-contrib-python': '4.11.0.86'
        }, [('opencv-python-headless', '')])
    row = rows['opencv-python-headless']
    assert (row.package, row.problem) == ('opencv-contrib-python', '')


def test_packages_on_the_path_count_as_installed():
    rows, tasks = check({'mmdet': None}, [('mmdet', '')])
    assert rows['mmdet'].found == '?'
    assert 'version unknown' in rows['mmdet'].remedy
    assert tasks['detection'] == 'ready'


ONEDL = dict(CONTINUED.values(), **{'onedl-mmcv': '2.3.6'})
REPLACED = {
    **{
        package: None
        for package in CONTINUED
    },
    **ONEDL,
}


def test_the_continuation_of_openmmlab_is_known_by_its_names():
    rows, tasks = check(REPLACED, [(package, '') for package in CONTINUED])
    for package, (name, _) in CONTINUED.items():
        assert (rows[package].package, rows[package].found,
                rows[package].problem) == (name, ONEDL[name], '')
    assert set(tasks.values()) == {'ready'}


def test_a_broken_continuation_is_repaired_by_its_own_name():
    rows, _ = check(REPLACED, [(package, '') for package in CONTINUED] +
                    [('mmdet', 'ImportError: broken')])
    assert rows['mmdet'].remedy == (
        'pip install --force-reinstall --no-deps --no-build-isolation '
        'onedl-mmdetection==3.5.1')


def test_a_need_of_the_continuation_under_another_name():
    rows, _ = check(REPLACED, [(package, '') for package in CONTINUED] +
                    [('mmdet', "ModuleNotFoundError: No module named "
                      "'imgaug'")])
    assert rows['mmdet'].remedy.endswith('pip install --no-deps imaug==0.4.3')


@pytest.mark.parametrize('package', CONTINUED)
def test_a_library_and_its_continuation_overwrite_each_other(package):
    name, version = CONTINUED[package]
    rows, tasks = check({name: version})
    assert rows[package].problem == (
        f'{package} and {name} overwrite each other')
    assert rows[package].remedy.startswith(
        f'pip uninstall -y {package} {name} && ')
    assert 'not ready' in ' '.join(tasks.values())


def test_imports_are_tried_one_by_one(tmp_path, monkeypatch):
    (tmp_path / 'env_good.py').write_text('print("noise")')
    (tmp_path /
     'env_bad.py').write_text('raise RuntimeError("first line\\nlast line")')
    (tmp_path / 'env_exit.py').write_text('raise SystemExit(3)')
    (tmp_path / 'env_crash.py').write_text('import os; os._exit(9)')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    errors = import_errors([
        'env_bad', 'env_crash', 'env_good', 'env_nowhere', 'env_exit', 'json',
        'json env_bad', 'json re'
    ])
    assert errors == {
        'env_bad': 'last line',
        'env_crash': 'the import ends the interpreter',
        'env_good': '',
        'env_nowhere': "ModuleNotFoundError: No module named 'env_nowhere'",
        'env_exit': 'SystemExit: 3',
        'json': '',
        'json env_bad': 'last line',
        'json re': '',
    }


@pytest.mark.parametrize('changes, code', [
    ({}, 0),
    ({'mmpose': None}, 0),
    ({library: None for library in LIBRARIES}, 1),
    ({'munkres': None}, 1),
    ({'torch': None}, 1),
])  # yapf: disable
def test_prints_the_table_and_exits(changes, code, monkeypatch, capsys):
    versions = {**TESTED, **changes}
    monkeypatch.setattr(check_env, 'installed_versions', lambda: versions)
    monkeypatch.setattr(
        check_env, 'import_errors', lambda modules: {
            module: MISSING * (versions[package] is None)
            for package, (_, module) in PACKAGES.items()
        })
    monkeypatch.setattr(check_env, 'kernel_state', lambda: 'kernels: fast')
    monkeypatch.setattr(check_env, 'operator_state', lambda: 'ops: compiled')
    assert check_env.main() == code
    out = capsys.readouterr().out
    assert out.splitlines()[-7:-5] == ['kernels: fast', 'ops: compiled']
    for package in PACKAGES:
        assert f' {package} ' in out
    for package in changes:
        assert 'missing: pip install' in out
    assert out.splitlines()[-5].startswith('detection: ')


def test_kernels_are_named_or_their_absence_explained(monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_ISA', 'reference')
    assert check_env.kernel_state() == (
        '1-bit kernels: none, 1-bit layers are slow: MMCOMPRESS_ISA=reference '
        'asks for it')
    monkeypatch.setenv('MMCOMPRESS_ISA', 'nosuch')
    state = check_env.kernel_state()
    assert state.startswith('1-bit kernels: not usable: ')
    assert 'nosuch' in state


def test_prints_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcompress.tables', None)
    assert check_env.format_rows(
        'title', ['a', 'bb'],
        [['long', 'c']]) == ('\ntitle\na     bb\nlong  c')


def test_needs_nothing_but_python():
    code = ("import sys; import mmcompress.check_env; print([m for m in "
            "('torch', 'numpy', 'mmengine', 'rich') if m in sys.modules])")
    done = subprocess.run([sys.executable, '-S', '-c', code],
                          capture_output=True,
                          text=True)
    assert done.stdout == '[]\n', done.stderr


@pytest.mark.parametrize('version, said', [
    (None, 'not installed: pip install "transformers'),
    ('4.35.2', 'too old'),
    ('4.36.0', 'ready'),
    ('4.51.3', 'ready'),
    ('4.52.0', 'too new'),
])
def test_what_vision_language_models_need(version, said):
    assert said in check_env.multimodal_state(version)


def test_transformers_is_the_same_everywhere():
    root = Path(__file__).parents[1]
    lines = (root / 'requirements/multimodal.txt').read_text().splitlines()
    assert lines[-1] == check_env.TRANSFORMERS
    assert repr(check_env.TRANSFORMERS) in (root / 'setup.py').read_text()
