"""A fold rule serves a class, and what computes as it does."""
import importlib

import pytest
import torch.nn as nn
from deploy.networks import build

from mmcompress.binary.backbones import bi_resnet
from mmcompress.deploy import PackedBlock, pack
from mmcompress.lowbit import Rules, folds, row_of


class Base(nn.Module):

    def forward(self, x):
        return x


class Inherits(Base):
    pass


class Differs(Base):

    def forward(self, x):
        return -x


def test_a_rule_serves_subclasses_with_the_same_forward():
    rules = Rules('rule')

    @rules(Base)
    def rule(module):
        pass

    assert rules.find(Base()) is rules.find(Inherits()) is rule
    assert rules.find(Differs()) is None


def test_a_class_of_another_library_is_known_by_its_path():
    rules = Rules('rule')

    @rules(f'{Base.__module__}.Base')
    def rule(module):
        pass

    assert rules.find(Inherits()) is rule


def test_two_rules_for_a_class_are_an_error():
    rules = Rules('fold rule')
    rules(Base)(print)
    with pytest.raises(KeyError, match='has a fold rule already'):
        rules(Base)(print)


def test_renaming_a_class_of_ours_does_not_turn_folding_off():
    block = bi_resnet.BiBlock
    before = block.__module__, block.__qualname__
    block.__module__, block.__qualname__ = 'elsewhere', 'Renamed'
    try:
        packed = pack(build('react')[0])[1]
    finally:
        block.__module__, block.__qualname__ = before
    assert sum(isinstance(m, PackedBlock) for m in packed.modules()) == 16


@pytest.mark.parametrize('path', sorted(folds.paths + row_of.paths))
def test_the_classes_of_other_libraries_exist(path):
    module, _, name = path.rpartition('.')
    assert isinstance(getattr(importlib.import_module(module), name), type)
