import pytest
import torch

from mmcompress.backbones import SimpleFPN, ViTDet

ARCH = dict(
    embed_dims=16,
    num_layers=2,
    num_heads=2,
    feedforward_channels=32,
    global_attn_indexes=[])


def vitdet(**kwargs) -> ViTDet:
    """With random weights and positions, of 4 x 4 patches."""
    torch.manual_seed(0)
    kwargs = {**dict(arch=ARCH, img_size=16, patch_size=4), **kwargs}
    model = ViTDet(**kwargs)
    model.eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(
        2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('height, width', [(16, 16), (20, 36), (4, 8),
                                           (13, 27)])
def test_maps_have_a_value_for_each_patch_whatever_the_window(height, width):
    model = vitdet(window_size=3)
    x, = model(images(height, width))
    assert x.shape == (2, 16, -(-height // 4), -(-width // 4))
    assert x.isfinite().all()


def test_a_window_as_large_as_the_map_is_global_attention():
    windows = vitdet(window_size=4)
    everywhere = vitdet(arch=dict(ARCH, global_attn_indexes=[0, 1]))
    everywhere.load_state_dict(windows.state_dict())
    image = images(16, 16)
    torch.testing.assert_close(windows(image)[0], everywhere(image)[0])


def changed(model: ViTDet) -> torch.Tensor:
    """Where the last map changes with the first patch, shape (4, 4)."""
    image = images(16, 16)
    other = image.clone()
    other[:, :, :4, :4] += 1
    return (model(image)[0] - model(other)[0]).abs().amax((0, 1)) > 1e-6


def test_windows_do_not_see_each_other_but_for_the_global_layers():
    first_window = torch.zeros(4, 4, dtype=torch.bool)
    first_window[:2, :2] = True
    assert torch.equal(changed(vitdet(window_size=2)), first_window)
    arch = dict(ARCH, global_attn_indexes=[1])
    assert changed(vitdet(arch=arch, window_size=2)).all()


def test_positions_of_a_masked_autoencoder_become_a_grid():
    model = vitdet(window_size=2)
    positions = torch.randn(1, 1 + 16, 16)
    model.load_state_dict({**model.state_dict(), 'pos_embed': positions})
    grid = positions[:, 1:].view(1, 4, 4, 16)
    assert torch.equal(model.pos_embed, grid)
    # of a pretraining on larger images
    positions = torch.ones(1, 1 + 36, 16)
    model.load_state_dict({**model.state_dict(), 'pos_embed': positions})
    torch.testing.assert_close(model.pos_embed, torch.ones(1, 4, 4, 16))
    positions = torch.ones(1, 1 + 15, 16)
    with pytest.raises(ValueError, match=r'pos_embed: \(1, 16, 16\)'):
        model.load_state_dict({**model.state_dict(), 'pos_embed': positions})


def test_the_pyramid_has_strides_from_4_to_64():
    maps = SimpleFPN(8, out_channels=6)((torch.randn(2, 8, 5, 7), ))
    assert [tuple(x.shape) for x in maps] == [(2, 6, 20, 28), (2, 6, 10, 14),
                                              (2, 6, 5, 7), (2, 6, 2, 3),
                                              (2, 6, 1, 2)]
    # the coarsest is every second value of the one before
    assert torch.equal(maps[4], maps[3][..., ::2, ::2])


def test_all_of_the_pyramid_learns():
    neck = SimpleFPN(8, out_channels=6)
    maps = neck((torch.randn(2, 8, 4, 4), ))
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    assert all(p.grad is not None and p.grad.any() for p in neck.parameters())


def test_each_position_is_normalized_over_its_channels():
    for x in SimpleFPN(8, out_channels=6)((torch.randn(2, 8, 4, 4), )):
        torch.testing.assert_close(
            x.mean(1), torch.zeros_like(x[:, 0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize('wrong', [
    dict(in_channels=6),
    dict(in_channels=8, num_outs=3),
])
def test_impossible_pyramids_are_refused(wrong):
    with pytest.raises(ValueError, match='in_channels .* num_outs'):
        SimpleFPN(**wrong)
