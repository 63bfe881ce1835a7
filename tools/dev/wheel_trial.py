"""Use an installed wheel where there is no compiler: operators, and a model.

``check_wheel.py --no-compiler`` runs :func:`try_wheel`, which runs this file
in another Python, with nothing on ``PATH``.
"""
import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = ('cc', 'c++', 'gcc', 'g++', 'clang', 'clang++', 'nvcc')
# of tests/ops: each family of operators, seconds in all
TESTS = ('test_pack.py', 'test_linear.py', 'test_roi_align.py',
         'test_fake_quantize.py', 'test_match_merge.py', 'test_one_row.py',
         'test_max_pool_codes.py')
# of the mini data, which are rendered
FEW_IMAGES = {
    'test_dataloader.batch_size': 8,
    'test_dataloader.dataset.settings.num_train': 16,
    'test_dataloader.dataset.settings.num_val': 16
}
PYTEST = """\
[tool:pytest]
addopts = -q --strict-markers -p no:cacheprovider
markers =
    slow: left out
    gate: left out
filterwarnings =
    ignore::DeprecationWarning
    ignore::FutureWarning
"""


def try_wheel(wheel: str, python: str) -> list[str]:
    """Install a wheel apart from an environment, and use it there.

    Args:
        wheel (str): Path of it.
        python (str): Interpreter of an environment with torch, pytest and
            mmpretrain; what mmcompress it has itself does not count.

    Returns:
        list[str]: Problems, in sentences.
    """
    with tempfile.TemporaryDirectory() as temp:
        site, empty, tests = (
            Path(temp, name) for name in ('site', 'empty', 'tests'))
        empty.mkdir()
        # pip refuses a wheel whose tags don't fit
        done = subprocess.run([
            python, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index',
            '--disable-pip-version-check', '--target',
            str(site), wheel
        ])
        if done.returncode:
            return [f'pip of {python} does not install {wheel}']
        shutil.copytree(ROOT / 'tests' / 'ops', tests / 'ops')
        shutil.copy(ROOT / 'tests' / 'meta_device.py', tests)
        (tests / 'setup.cfg').write_text(PYTEST)
        env = {
            'PATH': str(empty),
            'PYTHONPATH': f'{site}:{tests}',
            'HOME': temp,
            'OMP_NUM_THREADS': '1'
        }
        for key in ('LD_LIBRARY_PATH', 'MMCOMPRESS_CACHE', 'LANG'):
            if key in os.environ:
                env[key] = os.environ[key]
        quick = ['-m', 'pytest', '-m', 'not slow', '-k', 'not compiled']
        commands = {
            'a packed model': [__file__, str(site)],
            'tests of operators': quick + [f'ops/{name}' for name in TESTS]
        }
        problems = []
        for title, command in commands.items():
            done = subprocess.run([python, *command], cwd=tests, env=env)
            if done.returncode:
                problems.append(f'{wheel} in {python}: {title} failed')
    return problems


def trial(site: Path) -> None:
    """Pack a network with 1-bit layers, and run what was written.

    Args:
        site (Path): Where the wheel was installed.
    """
    import torch
    from mmengine.config import Config

    import mmcompress
    import mmcompress.compat  # noqa: F401
    from mmcompress import ops
    from mmcompress.analysis.subject import build_subject
    from mmcompress.deploy.file.convert import pack_file
    from mmcompress.model.config import build_untrained, read_config

    found = [name for name in COMPILERS if shutil.which(name)]
    assert not found, f'there are compilers: {found}'
    assert Path(mmcompress.__file__).parent.parent == site, mmcompress.__file__
    info = ops.build_info()
    assert info['extension'] == [str(site / 'mmcompress/ops/_C.so')], info
    print(f'torch {torch.__version__}: {info["isa"]} of '
          f'{", ".join(info["built"])}')

    torch.manual_seed(0)
    source = site / 'mmcompress/.mim/configs/react/react_r18_mini.py'
    with tempfile.TemporaryDirectory() as temp:
        model = build_untrained(read_config(str(source)))
        torch.save(dict(state_dict=model.state_dict()), f'{temp}/float.pth')
        # compares the packed model with this one, layer by layer
        pack_file(
            str(source),
            f'{temp}/float.pth',
            f'{temp}/packed.pth',
            num_batches=1,
            options=FEW_IMAGES)
        packed = build_subject(
            Config.fromfile(f'{temp}/packed.py'), f'{temp}/packed.pth')
    x = torch.randn(2, 3, 64, 64)
    difference = (packed(x) - model.eval()(x)).abs().max()
    assert difference < 1e-3 * packed(x).abs().max(), difference


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('site', type=Path, help='where the wheel is unpacked')
    trial(parser.parse_args().site)
