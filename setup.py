"""Packaging: ``pip install .``, ``mim install .`` or a wheel.

The 1-bit kernels are compiled where torch (2.10 or later) and a C++ compiler
are there, which takes ``--no-build-isolation``: see docs/ops.md.
"""
import shutil
import sys
from pathlib import Path
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / 'tools' / 'dev'))
from build_ops import try_build  # noqa: E402
from manylinux import machine_of  # noqa: E402

# what `mim` and `mmcompress::` look for inside the installed package
MIM = ('configs', 'tools', 'model-index.yml')
# what needs a checkout: it reads and writes docs
CHECKOUT_ONLY = ('benchmarks', )


def get_version() -> str:
    """Read the version without importing the package."""
    scope: dict = {}
    exec((ROOT / 'mmcompress' / 'version.py').read_text(), scope)
    return scope['__version__']


class BuildWithMim(build_py):
    """Also copy the configs and tools, and let bases begin with our name."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        # read at every start of Python, see mmcompress/config_prefix.py
        lines = (
            'import mmcompress.config_prefix as _p; _p.install()\n'
            # operators for an mmcv without, where they are asked for
            'import mmcompress.light_ops.hook as _l; _l.install()\n')
        Path(self.build_lib, 'mmcompress.pth').write_text(lines)
        target = Path(self.build_lib) / 'mmcompress' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source,
                    target / name,
                    ignore=shutil.ignore_patterns('__pycache__', '*.pyc',
                                                  *CHECKOUT_ONLY))
            else:
                shutil.copy(source, target / name)


class BuildKernels(build_ext):
    """Compile the kernels; without them the package is plain Python."""

    def run(self) -> None:
        folder = ROOT if self.inplace else Path(self.build_lib)
        wheel = self.distribution.get_command_obj('bdist_wheel', False)
        platform = wheel is not None and wheel.plat_name
        self.built = try_build(folder / 'mmcompress' / 'ops',
                               machine_of(platform) if platform else None)
        if not self.built:
            self.distribution.ext_modules = []
            if wheel is not None:
                wheel.root_is_pure = True

    def get_outputs(self) -> list[str]:
        return [str(path) for path in self.built]


class KernelsWheel(bdist_wheel):
    """For any Python; with kernels, for this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return 'py3', 'none', super().get_tag()[2]


setup(
    name='mmcompress',
    version=get_version(),
    description='Compression for OpenMMLab models: distillation, 1-bit '
    'layers and packed inference',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmcompress', 'mmcompress.*']),
    package_data={
        'mmcompress': ['py.typed'],
        'mmcompress.one_command': ['*.yml']
    },
    # no version of torch or of an mm library: an existing installation is
    # neither upgraded nor downgraded
    install_requires=['numpy', 'rich'],
    extras_require={
        'mim': ['mmengine>=0.10.4', 'mmcv>=2.0.1,<2.2.0'],
        'all': ['matplotlib', 'pillow', 'scikit-learn'],
        # as tested: see requirements/onnx.txt
        'onnx': [
            'onnx==1.23.2', 'onnxruntime==1.32.0', 'onnxscript==0.7.2',
            'onnx-ir==1.1.0', 'ml_dtypes>=0.5.4,<0.6'
        ],
        # as in requirements/multimodal.txt
        'multimodal': ['transformers>=4.36,<4.52'],
        # as in requirements/hub.txt
        'hub': ['huggingface_hub>=0.34,<1', 'safetensors>=0.4.3'],
        'tests': ['pytest', 'flake8', 'isort', 'yapf'],
    },
    # built by BuildKernels, from ops/csrc/sources.json
    ext_modules=[Extension('mmcompress.ops._C', [])],
    cmdclass={
        'bdist_wheel': KernelsWheel,
        'build_ext': BuildKernels,
        'build_py': BuildWithMim
    },
    zip_safe=False)
