"""The page on adding an operator describes what works."""
import re
from pathlib import Path

import torch
from signs import randn

from mmcompress import ops
from mmcompress.ops import library

PAGE = Path(__file__).parents[2] / 'ops/csrc/README.md'


def test_the_operator_of_the_page_passes_opcheck(monkeypatch):
    monkeypatch.setattr(library, 'SCHEMAS', dict(library.SCHEMAS))
    example, = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S)
    module: dict = {}
    exec(example, module)
    bits = ops.binary_pack(randn(2, 66, 3, 4))
    torch.library.opcheck(torch.ops.mmcompress.bit_parity.default, (bits, ))
    signs = ops.binary_unpack(bits, 66)
    is_odd = (signs > 0).sum(1) % 2 == 1
    assert torch.equal(module['bit_parity'](bits), is_odd)


def test_every_file_of_the_page_is_there():
    names = re.findall(r'`((?:cpu|cuda|tests|mmcompress)/[\w./]+)`',
                       PAGE.read_text())
    missing = [
        name for name in names if not (PAGE.parent / name).exists()
        and not (PAGE.parents[2] / name).exists() and 'parity' not in name
    ]
    assert not missing
