"""Which layers see the image, and which predict."""
import pytest
import torch.nn as nn

from mmcompress.quantization.first_last import first_and_last


def found(*names):
    """Of layers with many channels."""
    return first_and_last({name: nn.Conv2d(8, 8, 1) for name in names})


@pytest.mark.parametrize('name', [
    'bbox_head.cls_score', 'bbox_head.object_pred', 'bbox_head.tood_reg',
    'bbox_head.reppoints_pts_refine_out', 'bbox_head.retina_bbox_cls',
    'bbox_head.rtm_kernel.2', 'bbox_head.controller', 'bbox_head.conv_coeff',
    'mask_head.conv_mask_list_x.4', 'rpn_head.conv_loc',
    'roi_head.bbox_head.0.fc_reg_offset', 'roi_head.mask_head.fc_logits',
    'panoptic_head.cls_embed', 'decode_head.pam_conv_seg', 'head.mlp_head_x',
    'head.head_module.out_kpt.1', 'head.conv_cls_head', 'head.dist_head',
    'head.head.linear', 'head.layers.head', 'head.fc'
])
def test_layers_that_predict(name):
    assert found('neck.conv', name) == {name}


@pytest.mark.parametrize('stack', [
    'bbox_head.heatmap_head', 'panoptic_head.mask_embed',
    'bbox_head.aux_reg_branches.3', 'bbox_head.reg_branches.0',
    'bbox_head.fc_reg.layers'
])
def test_the_last_of_a_stack_predicts(stack):
    assert found(f'{stack}.0', f'{stack}.2') == {f'{stack}.2'}


def test_a_head_that_is_not_known_is_named(logged):
    assert found('bbox_head.new_layer',
                 'rpn_head.rpn_cls') == {'rpn_head.rpn_cls'}
    assert 'layers of bbox_head predict' in ''.join(logged)
