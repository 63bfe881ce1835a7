import math
from types import SimpleNamespace

import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import FGDLoss
from mmcompress.distill.losses.fgd import (FGDLevel, GlobalContext, attention,
                                           foreground_background)

IMAGE = (48, 64)
MAP = (6, 8)
# one cell is 8 x 8 pixels: columns 2..5, rows 1..3
BOX = torch.tensor([[17.0, 9, 39, 23]])
# columns 3..4, rows 2..3, inside of BOX
SMALL = torch.tensor([[25.0, 17, 31, 23]])
NONE = torch.zeros(0, 4)
FULL = torch.tensor([[0.0, 0, 64, 48]])
TERMS = ('alpha_fgd', 'beta_fgd', 'gamma_fgd', 'lambda_fgd')


def randn(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def samples(*boxes, img_shape=IMAGE, batch_input_shape=IMAGE):
    metainfo = dict(img_shape=img_shape, batch_input_shape=batch_input_shape)
    return [
        SimpleNamespace(
            gt_instances=SimpleNamespace(bboxes=b), metainfo=metainfo)
        for b in boxes
    ]


def fgd(channels=4, teacher_channels=4, num_levels=1, seed=0, **kwargs):
    """A loss; with ``random=True`` past the identity that it starts as."""
    random = kwargs.pop('random', False)
    torch.manual_seed(seed)
    loss = FGDLoss(channels, teacher_channels, num_levels, **kwargs)
    if random:
        for parameter in loss.parameters():
            torch.nn.init.normal_(parameter)
    return loss


def only(term, **kwargs):
    """A loss with weight 1 for a term, and 0 for the others."""
    return fgd(**{name: float(name == term) for name in TERMS}, **kwargs)


def pair(*shape, **kwargs):
    return [randn(*shape, seed=1, **kwargs), randn(*shape, seed=2, **kwargs)]


def gradient(loss, student, teacher, data_samples):
    student = student.clone().requires_grad_()
    total, = loss([student], [teacher], data_samples)
    return torch.autograd.grad(total, student)[0]


@golden('fgd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


# ---- Attention --------------------------------------------------------------


def test_attentions_sum_to_positions_and_channels():
    spatial, channel = attention(randn(3, 4, 5, 6), 0.5)
    torch.testing.assert_close(spatial.sum((1, 2)), torch.full((3, ), 30.0))
    torch.testing.assert_close(channel.sum(1), torch.full((3, ), 4.0))


def test_attention_of_a_constant_map_is_one_everywhere():
    spatial, channel = attention(torch.full((2, 4, 5, 6), -1e4), 0.5)
    torch.testing.assert_close(spatial, torch.ones(2, 5, 6))
    torch.testing.assert_close(channel, torch.ones(2, 4))


def test_attention_follows_the_size_of_the_map():
    x = torch.ones(1, 2, 3, 3)
    x[0, 1, 2, 0] = -5
    spatial, channel = attention(x, 0.5)
    assert spatial.flatten().argmax() == 6
    assert channel.argmax() == 1
    # mean over 2 channels: 3 against 1, divided by the temperature
    assert spatial[0, 2, 0] / spatial[0, 0, 0] == pytest.approx(math.exp(4))


def test_a_higher_temperature_flattens_the_attention():
    x = randn(1, 4, 5, 6)
    sharp, soft = attention(x, 0.1)[0], attention(x, 10.0)[0]
    assert sharp.max() > soft.max() > 1


# ---- Masks ------------------------------------------------------------------


def masks_by_loops(boxes, image_size, feat_size):
    """As the definition reads: box by box, cell by cell."""
    (height, width), (h, w) = image_size, feat_size
    foreground = torch.zeros(h, w, dtype=boxes.dtype)
    for x1, y1, x2, y2 in boxes:
        left, right = (x1 / width * w).floor(), (x2 / width * w).ceil()
        top, bottom = (y1 / height * h).floor(), (y2 / height * h).ceil()
        weight = 1 / (bottom + 1 - top) / (right + 1 - left)
        for y in range(h):
            for x in range(w):
                if top <= y <= bottom and left <= x <= right:
                    foreground[y, x] = max(foreground[y, x], weight)
    background = torch.zeros_like(foreground)
    background[foreground == 0] = 1 / max((foreground == 0).sum().item(), 1)
    return foreground, background


@pytest.mark.parametrize('seed', range(8))
def test_masks_equal_those_of_a_loop_over_boxes(seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(seed, 2, 2, generator=generator).sort(1).values
    boxes = (corners * torch.tensor([64, 48])).flatten(1)
    if seed % 2:
        boxes = boxes.round()
    for feat_size in (MAP, (3, 4), (1, 1), (5, 7)):
        actual = foreground_background(boxes, IMAGE, feat_size)
        expected = masks_by_loops(boxes, IMAGE, feat_size)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_an_interior_box_weighs_one_in_all():
    foreground, background = foreground_background(BOX, IMAGE, MAP)
    expected = torch.zeros(MAP)
    expected[1:4, 2:6] = 1 / 12
    torch.testing.assert_close(foreground, expected)
    torch.testing.assert_close(background, (expected == 0) / 36)


def test_the_smallest_box_wins_whatever_the_order():
    both = foreground_background(torch.cat((BOX, SMALL)), IMAGE, MAP)[0]
    alone = foreground_background(BOX, IMAGE, MAP)[0]
    inside = foreground_background(SMALL, IMAGE, MAP)[0] > 0
    assert inside.sum() == 4
    assert (both[inside] == 1 / 4).all()
    assert torch.equal(both[~inside], alone[~inside])
    swapped = foreground_background(torch.cat((SMALL, BOX)), IMAGE, MAP)[0]
    assert torch.equal(both, swapped)


def test_without_boxes_everything_is_background():
    foreground, background = foreground_background(NONE, IMAGE, MAP)
    assert not foreground.any()
    torch.testing.assert_close(background, torch.full(MAP, 1 / 48))


def test_a_box_that_covers_everything_leaves_no_background():
    foreground, background = foreground_background(FULL, IMAGE, MAP)
    # as in the official code, a row and a column beyond the border count
    torch.testing.assert_close(foreground, torch.full(MAP, 1 / 63))
    assert not background.any()


def test_a_box_without_area_covers_a_cell():
    point = torch.tensor([[20.0, 20, 20, 20]])
    foreground, _ = foreground_background(point, IMAGE, MAP)
    assert foreground.sum() == 1
    assert foreground[2:4, 2:4].eq(1 / 4).all()


def test_a_box_with_exchanged_corners_covers_nothing():
    # as wide as minus one cell: its area is 0
    box = torch.tensor([[48.0, 8, 40, 24], [48, 24, 8, 8]])
    foreground, background = foreground_background(box, IMAGE, MAP)
    assert not foreground.any()
    assert background.isfinite().all()


def test_borders_round_as_in_the_official_code():
    # 48 / 80 * 25 is above 15 in single precision, 48 * 25 / 80 is not
    box = torch.tensor([[8.0, 8, 48, 48]])
    foreground, _ = foreground_background(box, (80, 80), (25, 25))
    covered = foreground.sum(0).nonzero().flatten().tolist()
    assert covered == list(range(2, 17))


def test_masks_have_no_gradient():
    box = BOX.clone().requires_grad_()
    foreground, background = foreground_background(box, IMAGE, MAP)
    assert not foreground.requires_grad and not background.requires_grad


def test_mask_ref_is_what_the_map_covers():
    box = torch.tensor([[9.0, 9, 15, 15]])
    data = samples(box, img_shape=(48, 32), batch_input_shape=(48, 64))
    student, teacher = pair(1, 4, *MAP)

    def cells(mask_ref):
        loss = only('alpha_fgd', mask_ref=mask_ref)
        grad = gradient(loss, student, teacher, data).abs().sum((0, 1))
        columns = grad.sum(0).nonzero().flatten().tolist()
        rows = grad.sum(1).nonzero().flatten().tolist()
        return rows, columns

    assert cells('batch_input_shape') == ([1, 2], [1, 2])
    # stretched, as if the image were as wide as the batch
    assert cells('img_shape') == ([1, 2], [2, 3, 4])


def test_without_padding_mask_ref_makes_no_difference():
    student, teacher = pair(1, 4, *MAP)
    losses = [
        fgd(mask_ref=ref)([student], [teacher], samples(BOX))[0]
        for ref in ('img_shape', 'batch_input_shape')
    ]
    assert losses[0] == losses[1]


# ---- Terms ------------------------------------------------------------------


def test_gradient_is_the_derivative():
    student, teacher = pair(2, 3, 2, 3, dtype=torch.double)
    loss = fgd(3, 4, random=True).double()
    teacher = torch.cat((teacher, teacher[:, :1]), 1)
    names, parameters = zip(*loss.named_parameters())
    data = samples(BOX.double(), NONE.double())

    def run(student, *values):
        return torch.func.functional_call(loss, dict(zip(names, values)),
                                          ([student], [teacher], data))[0]

    # weights of one, so that no term is too small to be seen
    loss.weights = dict.fromkeys(loss.weights, 1.0)
    assert torch.autograd.gradcheck(
        run, (student.requires_grad_(), *parameters), fast_mode=True)


def test_is_zero_with_its_gradient_when_the_student_equals_the_teacher():
    _, teacher = pair(2, 4, *MAP)
    loss = fgd()
    student = teacher.clone().requires_grad_()
    total, = loss([student], [teacher], samples(BOX, NONE))
    total.backward()
    assert total == 0
    assert not student.grad.any()
    assert not any(p.grad.any() for p in loss.parameters())


def test_the_global_term_starts_as_the_squared_distance():
    student, teacher = pair(2, 4, *MAP)
    total, = only('lambda_fgd')([student], [teacher], samples(BOX, NONE))
    torch.testing.assert_close(total, (student - teacher).square().sum() / 2)


def test_a_fresh_context_block_is_the_identity():
    x = randn(2, 4, *MAP)
    block = GlobalContext(4)
    assert torch.equal(block(x), x)
    # not so later: it adds one vector to all positions
    torch.nn.init.normal_(block.add[3].weight)
    added = block(x) - x
    assert added.abs().max() > 0.1
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added))


def test_initial_weights_are_the_official_ones():
    torch.manual_seed(0)
    block = FGDLevel(512, 512, 0.5).context_s
    assert block.mask.weight.std().item() == pytest.approx(
        math.sqrt(2 / 512), rel=0.1)
    assert not block.mask.bias.any()
    assert not block.add[3].weight.any() and not block.add[3].bias.any()
    assert block.add[1].weight.shape == (256, 1, 1)
    assert block.add[1].eps == 1e-5


def test_at_first_only_the_last_convolutions_learn():
    student, teacher = pair(2, 4, *MAP)
    loss = fgd()
    loss([student], [teacher], samples(BOX, BOX))[0].backward()
    learning = {n for n, p in loss.named_parameters() if p.grad.any()}
    assert learning == {
        f'levels.0.context_{side}.add.3.{kind}'
        for side in 'st'
        for kind in ('weight', 'bias')
    }


def test_foreground_and_background_share_the_cells_out():
    student, teacher = pair(1, 4, *MAP)
    inside = torch.zeros(MAP, dtype=torch.bool)
    inside[1:4, 2:6] = True
    for term, where in (('alpha_fgd', inside), ('beta_fgd', ~inside)):
        grad = gradient(only(term), student, teacher, samples(BOX))
        assert torch.equal(grad.abs().sum((0, 1)) > 0, where), term


def test_the_attention_term_is_the_l1_distance():
    student, teacher = pair(2, 4, *MAP)
    total, = only(
        'gamma_fgd', temp=0.8)([student], [teacher], samples(BOX, BOX))
    expected = sum(
        (a - b).abs().sum()
        for a, b in zip(attention(student, 0.8), attention(teacher, 0.8)))
    torch.testing.assert_close(total, expected / 2)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    student, teacher = pair(2, 4, *MAP)
    data = samples(BOX, SMALL)
    weights = dict(zip(TERMS, (0.1, 0.2, 0.3, 0.4)))
    total, = fgd(random=True, **weights)([student], [teacher], data)
    parts = [
        weight * only(term, random=True)([student], [teacher], data)[0]
        for term, weight in weights.items()
    ]
    assert all(part > 0 for part in parts)
    torch.testing.assert_close(total, sum(parts))


def test_the_default_weights_are_the_official_ones():
    assert list(FGDLoss(4, 4, 1).weights.values()) == [1e-3, 5e-4, 1e-3, 5e-6]


def test_a_batch_is_the_mean_of_its_images():
    student, teacher = pair(2, 4, *MAP)
    loss = fgd(random=True)
    batch, = loss([student], [teacher], samples(BOX, SMALL))
    alone = [
        loss([student[i:i + 1]], [teacher[i:i + 1]], samples(box))[0]
        for i, box in enumerate((BOX, SMALL))
    ]
    torch.testing.assert_close(batch, sum(alone) / 2)


def test_levels_have_parameters_of_their_own():
    loss = fgd(num_levels=2, random=True)
    maps = [pair(1, 4, *MAP), pair(1, 4, 3, 4)]
    students, teachers = zip(*maps)
    both = loss(students, teachers, samples(BOX))
    assert len(both) == 2
    for i, (student, teacher) in enumerate(maps):
        level = fgd()
        level.levels[0].load_state_dict(loss.levels[i].state_dict())
        torch.testing.assert_close(
            both[i],
            level([student], [teacher], samples(BOX))[0])


def test_channels_are_aligned_only_where_they_differ():
    assert not list(fgd(4, 4).levels[0].align.parameters())
    loss = fgd(3, 4, num_levels=2)
    assert [m.align.weight.shape for m in loss.levels] == [(4, 3, 1, 1)] * 2
    student, teacher = randn(1, 3, *MAP), randn(1, 4, *MAP)
    loss = fgd(3, 4)
    loss([student], [teacher], samples(BOX))[0].backward()
    assert loss.levels[0].align.weight.grad.any()


# ---- Batches of all kinds ---------------------------------------------------


@pytest.mark.parametrize('boxes', [
    [NONE, NONE],
    [NONE, BOX],
    [FULL, FULL],
    [torch.tensor([[20.0, 20, 20, 20]]), NONE],
    [torch.tensor([[48.0, 8, 40, 24]]), NONE],
    [BOX],
], ids=['empty', 'half empty', 'full', 'point', 'exchanged', 'one'])  # yapf: disable  # noqa: E501
def test_loss_and_gradient_are_finite(boxes):
    student, teacher = pair(len(boxes), 4, *MAP)
    grad = gradient(fgd(random=True), student, teacher, samples(*boxes))
    assert grad.isfinite().all() and grad.any()


def test_without_boxes_the_foreground_is_zero_with_a_gradient():
    student, teacher = pair(2, 4, *MAP)
    student.requires_grad_()
    total, = only('alpha_fgd')([student], [teacher], samples(NONE, NONE))
    total.backward()
    assert total == 0
    assert student.grad is not None and not student.grad.any()


@pytest.mark.parametrize('make', [
    lambda: [1e4 * x for x in pair(2, 4, *MAP)],
    lambda: [torch.zeros(2, 4, *MAP), torch.full((2, 4, *MAP), 1e4)],
    lambda: [torch.full((2, 4, *MAP), 3.0), torch.zeros(2, 4, *MAP)],
], ids=['large', 'constant', 'zero'])  # yapf: disable
def test_extreme_maps_stay_finite(make):
    student, teacher = make()
    loss = fgd(random=True)
    grad = gradient(loss, student, teacher, samples(BOX, NONE))
    assert grad.isfinite().all()
    assert loss([student], [teacher], samples(BOX, NONE))[0].isfinite()


def test_boxes_may_be_box_objects():
    from mmdet.structures.bbox import HorizontalBoxes
    student, teacher = pair(1, 4, *MAP)
    plain, = fgd()([student], [teacher], samples(BOX))
    boxed, = fgd()([student], [teacher], samples(HorizontalBoxes(BOX)))
    assert plain == boxed


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_neither_overflows_nor_stays_half(dtype):
    # the sum over the map is far beyond 65504
    student, teacher = [30 * x for x in pair(2, 4, 32, 32)]
    loss = fgd(3, 4, random=True)
    student = student[:, :3]
    expected, = loss([student], [teacher], samples(BOX, NONE))
    # the attentions amplify rounding; without it they are equal
    rounded, = loss([student.to(dtype).float()], [teacher.to(dtype).float()],
                    samples(BOX, NONE))
    with torch.autocast('cpu', dtype=dtype):
        actual, = loss([student.to(dtype)], [teacher.to(dtype)],
                       samples(BOX, NONE))
        mixed, = loss([student], [teacher], samples(BOX, NONE))
    assert actual.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(actual, rounded)
    torch.testing.assert_close(mixed, expected)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_rounded_maps_give_nearly_the_same_loss(dtype):
    student, teacher = pair(2, 4, *MAP)
    data = samples(BOX, NONE)
    loss = fgd(random=True)
    torch.testing.assert_close(
        loss([student.to(dtype)], [teacher.to(dtype)], data)[0],
        loss([student], [teacher], data)[0],
        rtol=1e-2,
        atol=0)


# ---- Errors -----------------------------------------------------------------


@pytest.mark.parametrize('student, teacher', [
    ((2, 3, 6, 8), (2, 4, 6, 8)),
    ((2, 4, 6, 8), (2, 3, 6, 8)),
    ((2, 4, 6, 8), (2, 4, 3, 4)),
])
def test_error_names_both_shapes_and_the_remedy(student, teacher):
    with pytest.raises(ValueError) as error:
        fgd()([torch.zeros(student)], [torch.zeros(teacher)],
              samples(BOX, BOX))
    text = str(error.value)
    assert f'student [{student}] and teacher [{teacher}]' in text
    assert '1 levels (num_levels) of (4, 4) channels' in text
    assert '(student_channels, teacher_channels)' in text


@pytest.mark.parametrize('num_student, num_teacher', [(1, 1), (1, 2), (2, 1)])
def test_rejects_another_number_of_levels(num_student, num_teacher):
    level = torch.zeros(1, 4, 6, 8)
    with pytest.raises(ValueError, match='2 levels .num_levels.'):
        fgd(num_levels=2)([level] * num_student, [level] * num_teacher,
                          samples(BOX))


def test_rejects_an_unknown_mask_ref():
    with pytest.raises(ValueError, match="mask_ref must be.*got 'pad_shape'"):
        fgd(mask_ref='pad_shape')


def test_rejects_what_it_cannot_mask_by():
    level = [torch.zeros(2, 4, 6, 8)]
    with pytest.raises(ValueError, match='1 data samples and .* 2 images'):
        fgd()(level, level, samples(BOX))
    rotated = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r'boxes \(3, 5\).*rotated'):
        fgd()(level, level, samples(BOX, rotated))
    without = [SimpleNamespace(metainfo=dict(img_shape=IMAGE))] * 2
    with pytest.raises(ValueError, match='no gt_instances'):
        fgd()(level, level, without)
    with pytest.raises(ValueError, match='no batch_input_shape .mask_ref.'):
        fgd(mask_ref='batch_input_shape')(level, level, without)
    with pytest.raises(ValueError, match='teacher_channels must be at least'):
        fgd(channels=1, teacher_channels=1)
