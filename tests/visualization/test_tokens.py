import runpy
import sys

import numpy as np
import pytest
import torch
from integration.small_runs import ROOT
from mmengine.config import Config
from PIL import Image
from tokens.models import build, merging
from torch import nn

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import build_subject
from mmcompress.visualization.tokens import groups_of, merging_backbone, paint

TOOL = str(ROOT / 'tools' / 'visualization' / 'show_tokens.py')
DENSE = ROOT / 'configs' / 'tome' / 'vit_segmentation_mini.py'


class Model(nn.Module):
    """Called as the models of mm libraries."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, mode):
        """Run the backbone."""
        assert mode == 'tensor'
        return self.backbone(inputs)


def model_of(name, r=3, **changes):
    return Model(build(name, merging(r), **changes).backbone).eval()


# 4 x 6 patches, that is more than the position embeddings are of
def batch(num=1):
    torch.manual_seed(1)
    return dict(inputs=torch.randn(num, 3, 32, 48))


@pytest.mark.parametrize('name, extra', [('vit', 1), ('deit', 2), ('g2sd', 2),
                                         ('vitpose', 0), ('mmseg', 1)])
def test_groups_are_those_of_the_tokens_of_patches(name, extra):
    model, kept = model_of(name, img_size=(32, 48)), []
    model.backbone.layers[2].register_forward_hook(
        lambda module, args, output: kept.append(output))
    found = groups_of(model, batch(), 'backbone', [0, 2])
    assert [(g.left, g.total) for g in found.values()] == \
        [(24 + extra - left, 24 + extra) for left in (3, 9)]
    last, tokens = found[2].group, kept[0].group[0]
    behind = 1 if name == 'g2sd' else 0
    tokens = tokens[extra - behind:len(tokens) - behind].numpy()
    assert last.shape == (4, 6)
    assert ((last.ravel()[:, None] == last.ravel()) == (
        tokens[:, None] == tokens)).all()
    # numbered by the first patch of each
    _, first = np.unique(last, return_index=True)
    assert (np.diff(first) > 0).all() and last.max() == len(first) - 1


def test_before_anything_merges_each_patch_is_alone():
    model = model_of('vit', r=[0, 0, 3, 3])
    groups = groups_of(model, batch(), 'backbone', [1])[1]
    assert (groups.group.ravel() == np.arange(24)).all() and groups.left == 25


def test_layers_count_from_the_last_as_well():
    model = model_of('vit')
    assert list(groups_of(model, batch(), 'backbone', [-1, 0])) == [3, 0]
    with pytest.raises(ValueError, match='no layer 4: it has 4, from 0 to 3'):
        groups_of(model, batch(), 'backbone', [4])


def test_images_are_drawn_one_by_one():
    with pytest.raises(ValueError, match='2 images are drawn one by one'):
        groups_of(model_of('vit'), batch(2), 'backbone', [0])


def test_what_merges_nothing_says_what_would():
    model = model_of('vit')
    assert merging_backbone(model) == 'backbone'
    with pytest.raises(ValueError, match="of 'head' merge no tokens; those "
                       'of backbone do'):  # yapf: disable
        merging_backbone(model, 'head')
    with pytest.raises(ValueError, match='MergeTokens.*--r 8'):
        merging_backbone(Model(build('vit').backbone))


def test_a_group_has_its_mean_colour_and_a_bright_border():
    image = np.zeros((4, 8, 3))
    image[:, :4] = 0.2
    image[:, 4:6] = 0.6
    # two patches of one group, two alone
    group = np.array([[0, 0, 1, 2]])
    picture = paint(image, group, 10)
    assert picture.shape == (10, 40, 3)
    assert picture[5, 5] == pytest.approx([0.2] * 3)
    assert picture[5, 25] == pytest.approx([0.6] * 3)
    assert picture[5, 35] == pytest.approx([0.0] * 3)
    # within the group there is none, at its end one pixel
    assert (picture[5, 1:19] == picture[5, 5]).all()
    assert np.ptp(picture[5, 19]) == 1
    # what is alone has a pale one
    assert np.ptp(picture[5, 20]) == 0
    assert picture[5, 20, 0] == pytest.approx(0.57)


def test_tool_draws_a_dense_model_that_is_not_square(tmp_path, monkeypatch,
                                                     capsys):
    torch.manual_seed(0)
    state = build_subject(Config.fromfile(DENSE)).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'dense.pth')
    image = np.random.RandomState(0).randint(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'image.png')
    out = tmp_path / 'new' / 'tokens.png'
    monkeypatch.setattr(sys, 'argv', [
        TOOL,
        str(DENSE),
        str(tmp_path / 'dense.pth'),
        str(tmp_path / 'image.png'), '--r', '[0, 0, 32]', '--layer', '1', '-1',
        '--out',
        str(out)
    ])
    runpy.run_path(TOOL, run_name='__main__')
    assert f'layers 1, 4 of backbone: {out}' in capsys.readouterr().out
    width, height = Image.open(out).size
    assert (width, height) == (960, 270)
