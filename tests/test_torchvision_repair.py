import pytest
from compat.interpreter import python

from mmcompress import torchvision_repair

REPAIR = """
import json, sys
# forget a hook that the environment itself has installed
sys.meta_path[:] = [f for f in sys.meta_path
                    if type(f).__name__ != '_TorchvisionFinder']
try:
    import torchvision
    before = ''
except RuntimeError as error:
    before = str(error)
from mmcompress.torchvision_repair import install_import_hook
install_import_hook()
import torchvision.transforms, torchvision.ops.boxes
print(json.dumps([before, torchvision.__spec__.name]))
"""


def test_torchvision_imports_without_its_operators():
    before, name = python(REPAIR)
    if not before:
        pytest.skip('torchvision fits torch here')
    assert 'torchvision::nms' in before
    assert name == 'torchvision'


def test_torchvision_hook_loads_nothing_by_itself():
    assert python("""
import json, sys
import mmcompress.torchvision_repair as repair
repair.install_import_hook()
print(json.dumps([m for m in ('torch', 'numpy', 'mmengine')
                  if m in sys.modules]))
""") == []


def fake_torchvision(folder, body):
    (folder / 'torchvision').mkdir()
    (folder / 'torchvision' / '__init__.py').write_text(body)
    return python(f"""
import json, sys
sys.path.insert(0, {str(folder)!r})
from mmcompress.torchvision_repair import install_import_hook
install_import_hook()
try:
    import torchvision
    print(json.dumps(torchvision.runs))
except RuntimeError as error:
    print(json.dumps(str(error)))
""")


def test_a_sound_torchvision_is_left_alone(tmp_path):
    body = 'import sys\nruns = "torch" in sys.modules'
    assert fake_torchvision(tmp_path, body) is False


def test_other_errors_of_torchvision_are_not_hidden(tmp_path):
    body = 'raise RuntimeError("CUDA version mismatch")'
    assert fake_torchvision(tmp_path, body) == 'CUDA version mismatch'


def test_a_torchvision_that_stays_broken_says_so(tmp_path):
    message = 'operator torchvision::other does not exist'
    assert fake_torchvision(tmp_path,
                            f'raise RuntimeError({message!r})') == message


def test_torchvision_can_be_repaired_for_every_start(tmp_path, monkeypatch,
                                                     capsys):
    monkeypatch.setattr('sysconfig.get_path', lambda name: str(tmp_path))
    torchvision_repair.main()
    line, = tmp_path.glob('*.pth')
    assert str(line) in capsys.readouterr().out
    # site runs such lines
    assert python(f"""
import json, sys, site
site.addsitedir({str(tmp_path)!r})
print(json.dumps([type(f).__name__ for f in sys.meta_path]))
""").count('_TorchvisionFinder') == 1
