"""A library that is missing or broken takes away what needs it, no more.

Each is broken in a process of its own, in which all our names are looked up.
"""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmcompress.scoped_registry import registrations

# a process that imports everything, once and more
pytestmark = [pytest.mark.slow, pytest.mark.gate]
DETECT = {'IDaDetRPNHead', 'SSDHead'}
# of these the data set alone needs no more than mmpretrain itself
DATA = {'CaptionedImages'}
PRETRAIN = {
    'BackboneLayerDecay', 'CLIPRetrieval', 'CifarResNet', 'DeiT3',
    'DistTokenClsHead', 'DistTokenVisionTransformer', 'MAEFeatureDecoder',
    'MAEWithoutPixels', 'QDeiTClsHead', 'SimpleFPN', 'Sparsifiner', 'ViTDet'
}
MMCV = {
    'BiFormer', 'BiResNet', 'BiSSDVGG', 'DropPoints', 'IDaDetFPN',
    'JitterPoints', 'LoadPoints', 'MobileNetV1', 'NormalizePoints',
    'RotatePoints'
}
# broken: what then fails, and the end of the command that repairs it
CASES = dict(
    mmdet=(DETECT, '--force-reinstall --no-deps mmdet==3.3.0'),
    mmpretrain=(PRETRAIN | DATA,
                '--force-reinstall --no-deps mmpretrain==1.2.0'),
    # a dependency of mmpretrain alone
    einops=(PRETRAIN, '--force-reinstall einops'),
    mmcv=(PRETRAIN | DATA | DETECT | MMCV, '--force-reinstall mmcv==2.1.0'),
    # of which our modules need none
    mmpose_mmseg=(set(), ''))
QUICK = ('mmdet', 'mmpretrain')
# forks, so that torch is imported once
BREAK_EACH = """
import json, os, sys
from importlib import import_module
from mmcompress import registry
from mmcompress.scoped_registry import registrations

def look_up(names):
    errors = {}
    for variable, homes in registrations().items():
        # tokenizers are in no registry of ours but mmpretrain's
        if not hasattr(registry, variable):
            continue
        for name in names or homes:
            try:
                if name in homes:
                    found = getattr(registry, variable).get(name)
                    assert found.__module__ == homes[name]
            except Exception as error:
                errors[name] = type(error).__name__, str(error)
    if names:
        return errors
    home, name = registrations()['MODELS']['SSDHead'], 'SSDHead'
    for way, attempt in dict(
            imported=lambda: getattr(import_module('mmcompress.binary'), name),
            full=lambda: registry.MODELS.get(home + '.SSDHead')).items():
        try:
            attempt()
        except ImportError as error:
            errors[way] = str(error)
    errors['shown'] = sorted(registry.MODELS.module_dict)
    return errors

for number, (library, says, *names) in enumerate(json.loads(sys.argv[1])):
    sys.stdout.flush()
    if os.fork():
        os.wait()
        continue
    for module in library.split('_'):
        folder = os.path.join(sys.argv[2], str(number), module)
        os.makedirs(folder)
        with open(os.path.join(folder, '__init__.py'), 'w') as file:
            file.write('raise ' + says)
    sys.path.insert(0, os.path.dirname(folder))
    print('@' + json.dumps([library, says, look_up(names)]), flush=True)
    os._exit(0)
"""


def broken(library):
    return library, 'ImportError("built for another torch")'


def missing(library):
    return library, (f'ModuleNotFoundError("No module named {library!r}", '
                     f'name="{library}")')


TOO_OLD = 'mmdet', 'AssertionError("mmcv==9 is used")'


def look_ups(cases: list, folder: Path) -> dict:
    """(library, what its import raises) -> name -> what its look-up says."""
    done = subprocess.run([
        sys.executable, '-W', 'ignore', '-c', BREAK_EACH,
        json.dumps(cases),
        str(folder)
    ], capture_output=True, text=True)  # yapf: disable
    assert done.returncode == 0, done.stderr
    records = [
        json.loads(line[1:]) for line in done.stdout.splitlines()
        if line.startswith('@')
    ]
    found = {(library, says): errors for library, says, errors in records}
    assert set(found) == {case[:2] for case in cases}
    return found


@pytest.fixture(scope='module')
def errors(tmp_path_factory):
    """Of the quick cases, in one process that forks."""
    cases = [
        *map(broken, QUICK), (*missing('mmdet'), 'SSDHead', 'FGDLoss'),
        (*missing('einops'), 'DeiT3'), (*TOO_OLD, 'SSDHead')
    ]
    return look_ups(cases, tmp_path_factory.mktemp('broken'))


@pytest.mark.parametrize('library', QUICK)
def test_a_broken_library_takes_away_what_needs_it(library, errors):
    check(library, errors[broken(library)])


@pytest.mark.parametrize('library', sorted(CASES.keys() - set(QUICK)))
def test_others_take_away_what_needs_them(library, tmp_path):
    case = broken(library)
    check(library, look_ups([case], tmp_path)[case])


def check(library: str, found: dict) -> None:
    """What fails, and what the errors say."""
    expected, command = CASES[library]
    fails = set(found) - {'shown', 'imported', 'full'}
    assert fails == expected
    for name in fails:
        kind, message = found[name]
        assert kind == 'LibraryError'
        needs = f'mmcompress.{name} needs {library}, whose import fails: '
        if name in PRETRAIN and library == 'einops':
            needs = (f'mmcompress.{name} needs mmpretrain, whose import fails '
                     '(it imports einops): ')
        if library == 'mmcv':
            needs = f'mmcompress.{name} needs '
        assert message.startswith(needs)
        assert 'ImportError: built for another torch' in message
        assert f'{command}`' in message
    assert not set(found['shown']) & expected
    # whatever way it is asked for
    needs_mmdet = 'SSDHead' in expected
    assert ('imported' in found) == ('full' in found) == needs_mmdet
    if needs_mmdet:
        assert 'mmcompress.binary.heads.SSDHead needs mmdet' in found[
            'imported']
        assert 'mmcompress.SSDHead needs mmdet' in found['full']


@pytest.mark.parametrize('library, name, command', [
    ('mmdet', 'SSDHead', '`pip install --no-deps mmdet==3.3.0`'),
    ('einops', 'DeiT3', '`pip install einops`'),
])
def test_a_missing_one_is_installed_by_the_command(library, name, command,
                                                   errors):
    through = ' (it imports einops)' * (library == 'einops')
    needed = 'mmpretrain' if through else library
    assert errors[missing(library)][name][1] == (
        f'mmcompress.{name} needs {needed}, whose import fails{through}: '
        f"ModuleNotFoundError: No module named '{library}'. To repair it: "
        f'{command}; `python -m mmcompress.check_env` checks the rest')


def test_whatever_a_library_raises_is_told(errors):
    assert 'AssertionError: mmcv==9 is used' in errors[TOO_OLD]['SSDHead'][1]


def test_every_name_exists():
    names = {name for homes in registrations().values() for name in homes}
    assert set().union(*(fails for fails, _ in CASES.values())) <= names
