"""Compile kernels for any Linux with glibc 2.28: what ``build_ops`` adds.

The compiler is the machine's own GCC, or Debian's cross-compiler, not one in
a container: the kernels ask little of glibc and libstdc++, and what is newer
than manylinux_2_28 in the headers is replaced by ``ops/csrc/manylinux``.
``auditwheel`` says in ``build_wheel.py`` whether that was all. (A compiler
with a C++ library of its own, as zig's, will not do: errors of operators are
exceptions that torch catches, with libstdc++.)

The library is linked against stand-ins for torch's, which hold the names of
its stable interface: none of torch's C++ can be used by accident, and no
torch for the other processor is needed.
"""
import re
import subprocess
from pathlib import Path

MACHINES = ('x86_64', 'aarch64')
# from ops/csrc; in front of the system's headers
INCLUDE = '-Imanylinux'
SOURCE = {'file': 'manylinux/stringstream.cpp'}
# `torch/csrc/stable/c/shim.h` and `torch/csrc/inductor/aoti_torch/c/shim.h`
STABLE = re.compile(r'\b(?:aoti_)?torch_\w+')


def machine_of(tag: str) -> str | None:
    """The processor of a platform tag of ours.

    Args:
        tag (str): As ``manylinux_2_28_aarch64``.

    Returns:
        str | None: None for other platforms.
    """
    found = re.fullmatch(r'manylinux_2_28_(\w+)', tag.replace('-', '_'))
    return found[1] if found and found[1] in MACHINES else None


def _symbols(nm: str, *arguments: str) -> set[str]:
    done = subprocess.run([nm, *arguments],
                          capture_output=True,
                          text=True,
                          check=True)
    return set(STABLE.findall(done.stdout))


def stand_ins(compiler: str, objects: list[str], torch: Path,
              folder: Path) -> set[str]:
    """Write ``libtorch_cpu.so`` with what the objects need of torch.

    Args:
        compiler (str): For the processor of the objects.
        objects (list[str]): Compiled files.
        torch (Path): Folder of this machine's libraries of torch, whose
            stable interface has the same names.
        folder (Path): Where to write.

    Returns:
        set[str]: Names that torch lacks; empty if all is well.
    """
    nm = subprocess.run([compiler, '-print-prog-name=nm'],
                        capture_output=True,
                        text=True,
                        check=True).stdout.strip()
    needed = _symbols(nm, '--undefined-only', *objects)
    there = _symbols('nm', '--dynamic', '--defined-only',
                     str(torch / 'libtorch_cpu.so'))
    source = folder / 'stand_in.c'
    source.write_text(''.join(f'void {name}(void) {{}}\n'
                              for name in sorted(needed)))
    subprocess.run([
        compiler, '-x', 'c', '-shared', '-fPIC', '-Wl,-soname,libtorch_cpu.so',
        str(source), '-o',
        str(folder / 'libtorch_cpu.so')
    ], check=True)  # yapf: disable
    return needed - there
