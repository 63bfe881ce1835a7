"""Make ``import torchvision`` work where its C++ part does not load.

A torchvision built for CUDA next to a torch built for the CPU dies with
``operator torchvision::nms does not exist`` before anything of it is usable.
Only the schemas of two operators are missing, and nothing that OpenMMLab
imports of torchvision calls them.

Nothing happens before somebody imports torchvision, so installing the hook is
cheap enough for a ``.pth`` file.
"""
import sys

SCHEMAS = ('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
           'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')

# an operator lives as long as the library object that declared it
_libraries = []


def declare_missing_operators() -> None:
    """Declare the operators that torchvision's C++ part would bring."""
    from torch.library import Library
    library = Library('torchvision', 'FRAGMENT')
    for schema in SCHEMAS:
        library.define(schema)
    _libraries.append(library)


class _RepairingLoader:
    """Executes torchvision, a second time where the first one fails."""

    def __init__(self, loader) -> None:
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module) -> None:
        module.__spec__.loader = module.__loader__ = self.loader
        try:
            self.loader.exec_module(module)
        except RuntimeError as error:
            message = str(error)
            if not ('operator torchvision::' in message
                    and 'does not exist' in message and not _libraries):
                raise
            for name in list(sys.modules):
                if name.startswith('torchvision.'):
                    del sys.modules[name]
            declare_missing_operators()
            self.loader.exec_module(module)


class _TorchvisionFinder:
    """Finds torchvision as the others do, and wraps its loader."""

    def find_spec(self, name, path=None, target=None):
        if name != 'torchvision':
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, 'find_spec'):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, 'exec_module'):
                    spec.loader = _RepairingLoader(spec.loader)
                return spec
        return None


def install_import_hook() -> None:
    """Repair torchvision when it is imported, if it then needs it."""
    if not any(isinstance(f, _TorchvisionFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())


def main() -> None:
    """Install the hook for every start of this interpreter."""
    import sysconfig
    from pathlib import Path
    path = Path(sysconfig.get_path('purelib')) / 'mmcompress_torchvision.pth'
    path.write_text('import mmcompress.torchvision_repair as r; '
                    'r.install_import_hook()\n')
    print(f'wrote {path}; delete it to undo this')


if __name__ == '__main__':
    import argparse
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    main()
