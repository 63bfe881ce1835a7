"""Load packed files that were changed at random: none may pass as good.

A small network with weights of 1, 2, 4 and 8 bits is packed and written. In
one half of the files, bytes are changed; in the other, values, and the
checksum is computed anew. Each file is loaded as mmengine does it. It has to
be refused by a message that names it, with the model left as it was. Two kinds
of files may load: those whose changed bytes nobody reads, and those whose
values are others that packing could have written; they have to run.

  python tools/dev/mutate_packed.py 10000
"""
import argparse
import faulthandler
import logging
import math
import pickle
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.runner import load_checkpoint

import mmcompress.compat  # noqa: F401
from mmcompress.binary import IDaDetConv2d
from mmcompress.deploy import pack
from mmcompress.deploy.file.checkpoint import write_packed
from mmcompress.deploy.file.record import checksum
from mmcompress.quantization import Spec
from mmcompress.tables import format_table

IMAGE = (1, 3, 9, 9)
META = dict(dataset_meta=dict(classes=('cat', 'dog'), palette=[[0, 9, 255]]))
# after so many seconds one file counts as a hang, and ends the tool
HANG = 60
DTYPES = (torch.float64, torch.int8, torch.int32, torch.bool, torch.bfloat16,
          torch.complex64)
GRIDS = ([9, 0, 8], [0, 3, 255], [0, 0, 7], [255, 0, 0], [0, 0, 0])
OUTCOMES = ('refused', 'nothing changed', 'other values', 'silent', 'crash')


def network() -> nn.Module:
    """Trained, as it were: layers of all widths, inputs of all kinds."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 8, 3),
        nn.BatchNorm2d(8), IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8),
        nn.Flatten(), nn.Linear(72, 11), nn.ReLU(), nn.Linear(11, 6),
        nn.ReLU(), nn.Linear(6, 5))  # yapf: disable
    for index, weight, activation in ((0, dict(type='LSQ', bits=8),
                                       dict(type='LSQ', bits=8)),
                                      (3, dict(type='LSQ', bits=4),
                                       dict(type='LSQ', bits=8)),
                                      (8, dict(type='TernaryWeight'),
                                       dict(type='LSQ', bits=8,
                                            offset='beta')),
                                      (10, dict(type='LSQ', bits=8),
                                       dict(type='Dynamic', bits=8, clip=9))):
        Spec(weight=weight, activation=activation).swap(model[index])
    model(torch.randn(2, *IMAGE[1:]))
    return model.eval()


# ---- Changes of bytes ------------------------------------------------------


def change_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flip, overwrite, leave out, insert or cut off some."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5, 50))):
        if not data:
            break
        place, num = draw.randrange(len(data)), draw.randrange(1, 64)
        how = draw.randrange(20)
        if how < 9:
            data[place] ^= 1 << draw.randrange(8)
        elif how < 14:
            data[place] = draw.randrange(256)
        elif how < 16:
            del data[place:place + num]
        elif how < 18:
            data[place:place] = draw.randbytes(num)
        elif how < 19:
            data[place:place + num] = bytes(num)
        else:
            del data[place:]
    return bytes(data)


# ---- Changes of values -----------------------------------------------------


def _any(state: dict, draw: random.Random, *ends: str) -> str:
    """Name of an entry, of those with an end; not the checksum."""
    return draw.choice([
        name for name in state
        if name != 'packed_checksum' and name.endswith(ends or '')
    ])


def _no_number(state: dict, draw: random.Random) -> str:
    name = _any({
        k: v
        for k, v in state.items() if v.is_floating_point()
    }, draw)
    # thresholds may be infinite: a bit that is always the same
    values = [math.nan]
    if not name.endswith('threshold'):
        values += [math.inf, -math.inf]
    flat = state[name].view(-1)
    flat[draw.randrange(len(flat))] = draw.choice(values)
    return name


def _other_dtype(state: dict, draw: random.Random) -> str:
    name = _any(state, draw)
    state[name] = state[name].to(
        draw.choice([d for d in DTYPES if d != state[name].dtype]))
    return name


def _other_shape(state: dict, draw: random.Random) -> str:
    name = _any(state, draw)
    value = state[name]
    state[name] = draw.choice(
        (value[None], value.reshape(-1)[1:], value.reshape(-1).repeat(2)))
    return name


def _missing(state: dict, draw: random.Random) -> str:
    name = _any(state, draw)
    del state[name]
    return name


def _renamed(state: dict, draw: random.Random) -> str:
    name = _any(state, draw)
    state[f'{name}_'] = state.pop(name)
    return name


def _added(state: dict, draw: random.Random) -> str:
    name = _any(state, draw)
    state[f'{name}_'] = state[name]
    return name


def _no_dense_tensor(state: dict, draw: random.Random) -> str:
    name = _any(state, draw)
    value = state[name]
    state[name] = draw.choice(
        (None, 1, 'a', [1.0], {}, value.reshape(-1).to_sparse(),
         value.to('meta'), value.reshape(-1)[:1].expand(10**9)))
    return name


def _impossible_scale(state: dict, draw: random.Random) -> str:
    name = _any(state, draw, 'input_scale')
    state[name].fill_(draw.choice((0, -0.5, -math.inf, math.nan)))
    return name


def _impossible_grid(state: dict, draw: random.Random) -> str:
    name = _any(state, draw, 'input_grid')
    state[name] = torch.tensor(draw.choice(GRIDS), dtype=torch.uint8)
    return name


def _impossible_code(state: dict, draw: random.Random) -> str:
    """-2, of a ternary weight."""
    name = '8.weight_codes'
    codes, place = state[name], draw.randrange(len(state[name]))
    shift = 2 * draw.randrange(4)
    codes[place] = int(codes[place]) & ~(3 << shift) | 2 << shift
    return name


def _impossible_record(state: dict, draw: random.Random) -> str:
    name = _any(state, draw, 'packed_version', 'packed_fingerprint')
    state[name] += draw.choice((1, 7, 100))
    return name


def other_values(state: dict, draw: random.Random) -> str:
    """Bits of any entry, which may give what packing could have written."""
    name = _any(state, draw)
    flat = state[name].reshape(-1).view(torch.uint8)
    for _ in range(draw.choice((1, 1, 3, 30))):
        flat[draw.randrange(len(flat))] ^= 1 << draw.randrange(8)
    state[name] = flat.view(state[name].dtype).view(state[name].shape)
    return name


WRONG = (_no_number, _other_dtype, _other_shape, _missing, _renamed, _added,
         _no_dense_tensor, _impossible_scale, _impossible_grid,
         _impossible_code, _impossible_record)


def change_values(state: dict, draw: random.Random,
                  file: Path) -> tuple[str, bool]:
    """Write a file of changed values and the checksum of these.

    Returns:
        tuple[str, bool]: What was changed, and whether it may load.
    """
    state = {name: value.clone() for name, value in state.items()}
    how: Callable = draw.choice((*WRONG, other_values))
    what = f'{how.__name__.strip("_")} {how(state, draw)}'
    if all(_is_plain(value) for value in state.values()):
        state['packed_checksum'] = checksum(state)
    torch.save(dict(meta=META, state_dict=state), file)
    return what, how is other_values


def _is_plain(value: object) -> bool:
    return (isinstance(value, torch.Tensor) and not value.is_meta
            and value.layout == torch.strided and value.numel() < 10**6
            and value.dtype != torch.bfloat16)


# ---- What comes of it ------------------------------------------------------


class Trial:
    """Loads changed files into one model.

    Args:
        file (Path): Where to write them.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.model = pack(network())[1]
        write_packed(self.model, Config(), META, file, [])
        self.good = file.read_bytes()
        self.state = {
            name: value.clone()
            for name, value in self.model.state_dict().items()
        }
        self.meta = load_checkpoint(
            self.model, str(file), logger='silent')['meta']

    def _is_as_before(self) -> bool:
        now = self.model.state_dict()
        return all(now[name].equal(v) for name, v in self.state.items())

    def _outcome(self, may_load: bool) -> tuple[str, str]:
        try:
            loaded = load_checkpoint(
                self.model, str(self.file), 'cpu', logger='silent')
        except (RuntimeError, pickle.UnpicklingError) as error:
            if str(self.file) not in str(error):
                return 'crash', f'does not name the file: {error}'
            return ('refused' if self._is_as_before() else 'silent'), ''
        except Exception as error:
            return 'crash', f'{type(error).__name__}: {error}'
        if loaded.get('meta') != self.meta and not may_load:
            return 'silent', f'meta data: {loaded.get("meta")}'
        if self._is_as_before():
            return 'nothing changed', ''
        if not may_load:
            return 'silent', ''
        self.model(torch.ones(IMAGE))
        return 'other values', ''

    def __call__(self, draw: random.Random,
                 of_values: bool) -> tuple[str, str]:
        """Change a file and load it.

        Returns:
            tuple[str, str]: One of ``OUTCOMES``, and what was seen.
        """
        what, may_load = 'bytes', False
        if of_values:
            what, may_load = change_values(self.state, draw, self.file)
        else:
            self.file.write_bytes(change_bytes(self.good, draw))
        outcome, why = self._outcome(may_load)
        if outcome not in ('refused', 'nothing changed'):
            self.model.load_state_dict(self.state)
        return outcome, f'{what}: {why}' if why else what


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('num', type=int, help='number of files')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """Try them; 1 if one passed, or made something else of itself."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    logging.disable()
    faulthandler.enable()
    counts, slowest = Counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder, 'changed.pth'))
        for index in range(args.num):
            faulthandler.dump_traceback_later(HANG, exit=True)
            of_values, start = index % 2 == 1, time.perf_counter()
            outcome, what = trial(
                random.Random(f'{args.seed} {index}'), of_values)
            slowest = max(slowest, time.perf_counter() - start)
            counts[of_values, outcome] += 1
            if outcome in ('silent', 'crash'):
                print(f'file {index}: {outcome}, {what}')
    faulthandler.cancel_dump_traceback_later()
    rows = [[name, *(counts[of_values, o] for o in OUTCOMES)]
            for name, of_values in (('bytes', False),
                                    ('values, and the checksum', True))]
    print(
        format_table(f'{args.num} files, the slowest in {slowest:.2f} s',
                     ['changed', *OUTCOMES], rows))
    return int(any(o in ('silent', 'crash') for _, o in counts))


if __name__ == '__main__':
    sys.exit(main())
