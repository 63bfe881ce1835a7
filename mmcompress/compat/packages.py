"""Libraries that come from distributions under other names."""
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE


def find_renamed_packages() -> None:
    """Let configs have bases in libraries that were installed otherwise.

    mmengine asks for the distribution ``mmsegmentation`` when it meets
    ``mmseg::``. Where there is the module but no such distribution
    (``onedl-mmsegmentation``), it is told to look for the module.
    """
    for module, package in MODULE2PACKAGE.items():
        if module == package or find_spec(module) is None:
            continue
        try:
            version(package)
        except PackageNotFoundError:
            MODULE2PACKAGE[module] = module
