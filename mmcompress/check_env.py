"""Say which packages are there, which work, and what repairs the others.

``python -m mmcompress.check_env`` prints a table and which tasks are ready.
It imports nothing itself, so that it also runs where everything is broken.
"""
import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Dict, List, Optional, Tuple

from mmcompress.tested_packages import (BUILD_MMCV, CHOOSE_LIGHT, CONTINUED,
                                        CORE, EXACT, INSTALL_LIGHT, LIBRARIES,
                                        NO_DEPS, OPENCV, PACKAGES, PROVIDERS,
                                        TASKS, TESTED, TRANSFORMERS)

UNKNOWN = 'imported, but of no distribution of that name: version unknown'


@dataclass
class Row:
    """A package in the table.

    Attributes:
        package (str): Name of the distribution.
        found (str): Version, ``-`` where it is missing, ``?`` where the
            module is there but not its distribution.
        problem (str): Empty if it works.
        remedy (str): The command that repairs it, or a note.
    """
    package: str
    found: str
    problem: str = ''
    remedy: str = ''


def installed_versions() -> Dict[str, Optional[str]]:
    """Versions of all distributions that matter; None where missing."""
    versions = {}
    names = (*TESTED, *OPENCV, 'transformers')
    for name in dict.fromkeys(names):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


_PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    if name == 'mmengine.runner':
        # from here on as in our runs
        from mmcompress.torchvision_repair import install_import_hook
        install_import_hook()
    try:
        for module in name.split():
            importlib.import_module(module)
        error = ''
    except BaseException as e:
        error = (type(e).__name__ + ': ' + str(e)).strip().splitlines()[-1]
    print('\\n@' + json.dumps([name, error]), flush=True)
"""


def import_errors(modules: List[str]) -> Dict[str, str]:
    """Import modules in another interpreter.

    Args:
        modules (list[str]): Their names; each is imported after those before.
            Several in one string have one error.

    Returns:
        dict[str, str]: The last line of the error by name, empty where the
        import works.
    """
    errors: Dict[str, str] = {}
    while len(errors) < len(modules):
        rest = modules[len(errors):]
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', _PROBE, *rest],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True)
        for line in done.stdout.splitlines():
            if line.startswith('@['):
                name, error = json.loads(line[1:])
                errors[name] = error
        if len(errors) < len(modules):
            # a binary built for another numpy may end the interpreter
            name = modules[len(errors)]
            errors[name] = 'the import ends the interpreter'
    return errors


_KERNELS = """
from mmcompress.ops import build_info
info = build_info()
if info['reason']:
    print('1-bit kernels: none, 1-bit layers are slow:', info['reason'])
else:
    print('1-bit kernels:', info['isa'], 'in use, built:',
          ', '.join(info['built']))
"""


def kernel_state() -> str:
    """Which 1-bit kernels run here, or why none, in a line."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', _KERNELS],
                          capture_output=True,
                          text=True)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[-1] if done.returncode == 0 else (
        f'1-bit kernels: not usable: {lines[-1]}')


_OPERATORS = """
from mmcompress.light_ops.hook import in_use
if in_use():
    from mmcompress.light_ops.ext import __all__
    print(f"mmcv's operators: {len(__all__)} of mmcompress.light_ops, in "
          'torch; the others need the compiled mmcv')
else:
    print("mmcv's operators: compiled")
"""


def operator_state() -> str:
    """Whether mmcv's operators are compiled or ours, in a line."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', _OPERATORS],
                          capture_output=True,
                          text=True)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[-1] if done.returncode == 0 else (
        f"mmcv's operators: none: {lines[-1]}")


def numbers(version: str) -> Tuple[int, ...]:
    """The leading numbers of a version, such as ``(2, 1, 0)``."""
    return tuple(map(int, re.findall(r'\d+', version)[:3]))


def install(package: str) -> str:
    """The command that installs a package, as tested where that matters."""
    continued = package in dict(CONTINUED.values())
    options = '--no-deps ' if package in NO_DEPS or continued else ''
    if continued:
        options += '--no-build-isolation '
    exact = package in EXACT or continued
    version = f'=={TESTED[package]}' if exact else ''
    return f'pip install {options}{package}{version}'


def distributions(package: str, versions: Dict[str,
                                               Optional[str]]) -> List[str]:
    """Which of those that bring a package's module are installed."""
    names = [package, *CONTINUED.get(package, ())[:1]]
    return [name for name in names if versions.get(name)]


def judge(package: str, versions: Dict[str, Optional[str]],
          errors: Dict[str, str]) -> Row:
    """Decide whether a package works, and what repairs it.

    Args:
        package (str): A key of ``PACKAGES``.
        versions (dict): What :func:`installed_versions` found.
        errors (dict): What :func:`import_errors` found.

    Returns:
        Row: Its row of the table.
    """
    error = errors.get(PACKAGES[package][1], '')
    if package == 'opencv-python-headless':
        return _judge_opencv(versions, error)
    found = distributions(package, versions)
    if len(found) > 1:
        return Row(
            package, ', '.join(versions[name] for name in found),
            f'{" and ".join(found)} overwrite each other',
            f'pip uninstall -y {" ".join(found)} && {install(found[0])}')
    if package == 'mmcv':
        return _judge_mmcv(versions, error)
    # of several names the one that is installed
    name = found[0] if found else package
    version = versions.get(name)
    row = Row(name, version or ('-' if error else '?'))
    if version is None and error:
        row.problem, row.remedy = 'missing', install(name)
    elif version is None:
        row.remedy = UNKNOWN
    elif package == 'setuptools' and error:
        row.problem = 'without pkg_resources, which mmengine imports'
        row.remedy = 'pip install "setuptools<82"'
    elif package == 'torch' and not error and numbers(version) < (2, 6):
        row.problem, row.remedy = 'too old', 'pip install "torch>=2.6"'
    elif package == 'torchvision' and 'operator torchvision::' in error:
        row.remedy = ('its C++ part does not fit torch; works in runs that '
                      'import mmcompress.compat, as our configs do. For '
                      'others: python -m mmcompress.torchvision_repair')
    elif package == 'torchvision' and error and versions.get('torch'):
        row.problem = error
        # 0.15 belongs to 2.0, 0.28 to 2.13
        row.remedy = ('pip install --no-deps --force-reinstall "torchvision=='
                      f'0.{numbers(versions["torch"])[1] + 15}.*"')
    elif package == 'xtcocotools' and error and _is_numpy_2(versions):
        row.problem = 'is built for numpy 1'
        row.remedy = f'pip install numpy=={PACKAGES["numpy"][0]}'
    elif error:
        row.problem = error
        module = re.search(r"No module named '(\w+)", error)
        if module and package in LIBRARIES:
            row.remedy = PROVIDERS.get(module[1], f'pip install {module[1]}')
        else:
            row.remedy = install(name).replace(
                'pip install', 'pip install --force-reinstall')
    return row


def _is_numpy_2(versions: Dict[str, Optional[str]]) -> bool:
    return numbers(versions.get('numpy') or '0') >= (2, )


def _judge_opencv(versions: Dict[str, Optional[str]], error: str) -> Row:
    found = [name for name in OPENCV if versions.get(name)]
    package = found[0] if len(found) == 1 else 'opencv-python-headless'
    row = Row(package, ', '.join(versions[name] for name in found) or '-')
    if len(found) > 1:
        row.problem = f'{" and ".join(found)} overwrite each other'
        row.remedy = f'pip uninstall -y {" ".join(found)} && '
    elif error:
        row.problem = error if found else 'missing'
    if row.problem:
        row.remedy += install('opencv-python-headless')
    return row


def _judge_light(version: str, error: str) -> Row:
    """mmcv without compiled operators; ours are chosen or not."""
    row = Row('mmcv-lite', version)
    if 'mmcv._ext' in error:
        row.problem = 'mmcv-lite has no operators'
        row.remedy = (f'{CHOOSE_LIGHT} for those of mmcompress, or '
                      f'pip uninstall -y mmcv-lite && {BUILD_MMCV}')
    elif numbers(version) != numbers(TESTED['mmcv-lite']):
        row.problem = 'another version than that of our operators'
        row.remedy = INSTALL_LIGHT.replace('--no-deps', '--no-deps -U')
    elif error:
        row.problem, row.remedy = error, INSTALL_LIGHT
    return row


def _judge_mmcv(versions: Dict[str, Optional[str]], error: str) -> Row:
    name, = distributions('mmcv', versions) or ['mmcv']
    version = versions.get(name)
    row = Row(name, version or ('-' if error else '?'))
    strict = [n for n in ('mmdet', 'mmsegmentation') if versions.get(n)]
    lite = versions.get('mmcv-lite')
    if lite and version:
        row.found = f'{version}, {lite}'
        row.problem = f'{name} and mmcv-lite overwrite each other'
        row.remedy = f'pip uninstall -y {name} mmcv-lite && {BUILD_MMCV}'
    elif lite:
        row = _judge_light(lite, error)
    elif version is None and error:
        row.problem = 'missing'
        row.remedy = f'{BUILD_MMCV} (minutes), or {INSTALL_LIGHT}'
    elif version is None and not error:
        row.remedy = UNKNOWN
    elif name == 'mmcv' and version and strict and not (
            2, 0, 0) <= numbers(version) < (2, 2):
        row.problem = f'{" and ".join(strict)} want 2.0.0 to 2.1.x'
        row.remedy = BUILD_MMCV
    elif 'mmcv._ext' in error:
        row.problem = 'built without operators'
        row.remedy = f'{BUILD_MMCV}, or {CHOOSE_LIGHT}'
    elif error:
        row.problem, row.remedy = error, BUILD_MMCV
    return row


def make_rows(versions: Dict[str, Optional[str]],
              errors: Dict[str, str]) -> List[Row]:
    """Judge all packages.

    Args:
        versions (dict): Distribution -> version or None.
        errors (dict): Module -> error of its import, or ''.

    Returns:
        list[Row]: In the order of ``PACKAGES``, which is the order in which
        to repair them.
    """
    rows = [judge(package, versions, errors) for package in PACKAGES]
    state = dict(zip(PACKAGES, rows))
    for library, *needs in TASKS.values():
        broken = [name for name in (*CORE, *needs) if state[name].problem]
        if broken and state[library].problem and state[library].found != '-':
            state[library].remedy = f'first repair {", ".join(broken)}'
    return rows


def task_states(rows: List[Row]) -> Dict[str, str]:
    """Which tasks are ready.

    Args:
        rows (list[Row]): What :func:`make_rows` gives.

    Returns:
        dict[str, str]: ``ready``, ``not installed`` or what is missing, by
        task.
    """
    state = dict(zip(PACKAGES, rows))
    tasks = {}
    for task, needs in TASKS.items():
        library = state[needs[0]]
        problems = [n for n in (*CORE, *needs) if state[n].problem]
        if library.problem and library.found == '-':
            tasks[task] = f'not installed ({needs[0]})'
        elif problems:
            tasks[task] = f'not ready: {", ".join(problems)}'
        else:
            tasks[task] = 'ready'
    return tasks


def multimodal_state(version: Optional[str]) -> str:
    """Whether vision-language models can be built, in words.

    Args:
        version (str | None): Of transformers.
    """
    command = f'pip install "{TRANSFORMERS}"'
    if version is None:
        return f'not installed: {command}'
    lowest, highest = (numbers(part) for part in TRANSFORMERS.split(','))
    if lowest <= numbers(version) < highest:
        return f'ready (transformers {version})'
    age = 'old' if numbers(version) < lowest else 'new'
    return (f'not ready: transformers {version} is too {age} for mmpretrain, '
            f'{command}')


def format_rows(title: str, header: List[str], cells: List[list]) -> str:
    """A table, with or without rich."""
    try:
        from mmcompress.tables import format_table
        return format_table(title, header, cells)
    except ImportError:
        widths = [max(map(len, column)) for column in zip(header, *cells)]
        lines = [
            '  '.join(cell.ljust(width) for cell, width in zip(line, widths))
            for line in (header, *cells)
        ]
        return '\n'.join(['', title, *(line.rstrip() for line in lines)])


def main() -> int:
    """Print the table.

    Returns:
        int: 0 if at least one task is ready and no installed one isn't.
    """
    versions = installed_versions()
    rows = make_rows(
        versions, import_errors([module for _, module in PACKAGES.values()]))
    cells = []
    for row in rows:
        notes = [row.problem or 'ok'] + [row.remedy] * bool(row.remedy)
        tested = TESTED.get(row.package, '')
        cells.append([row.package, row.found, tested, ': '.join(notes)])
    print(
        format_rows(f'Python {sys.version.split()[0]}',
                    ['package', 'found', 'tested', 'state'], cells))
    tasks = task_states(rows)
    print()
    print(kernel_state())
    print(operator_state())
    tasks['vision-language'] = multimodal_state(versions.get('transformers'))
    for task, state in tasks.items():
        print(f'{task}: {state}')
    states = list(tasks.values())
    return int('ready' not in states
               or any(state.startswith('not ready') for state in states))


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    sys.exit(main())
