"""Packaging: ``pip install .``, ``mim install .`` or a wheel."""
import shutil
from pathlib import Path
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# what `mim` and `mmcompress::` look for inside the installed package
MIM = ('configs', 'tools', 'model-index.yml')


def get_version() -> str:
    """Read the version without importing the package."""
    scope: dict = {}
    exec((ROOT / 'mmcompress' / 'version.py').read_text(), scope)
    return scope['__version__']


class BuildWithMim(build_py):
    """Also copy the configs and tools to ``mmcompress/.mim``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mmcompress' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source,
                    target / name,
                    ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            else:
                shutil.copy(source, target / name)


setup(
    name='mmcompress',
    version=get_version(),
    description='Compression for OpenMMLab models: distillation, low-bit '
    'layers, token reduction and pruning',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmcompress', 'mmcompress.*']),
    # no version of torch or of an mm library: an existing installation is
    # neither upgraded nor downgraded
    install_requires=['numpy', 'rich'],
    extras_require={
        'mim': ['mmengine>=0.10.4', 'mmcv>=2.0.1,<2.2.0'],
        'all': ['matplotlib', 'pillow', 'scikit-learn'],
        'tests': ['pytest', 'flake8', 'isort', 'yapf'],
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False)
