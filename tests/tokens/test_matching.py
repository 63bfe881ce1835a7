"""What is true of every matching, and of each."""
import pytest
import torch
from golden import assert_golden, golden

from mmcompress.tokens import Match, matching, merge, unmerge

R = 4
# a name, and what a matching is asked for beside queries and keys
CASES = dict(
    attention_graph=dict(r=R),
    bipartite=dict(r=R),
    complete_graph=dict(r=R),
    evit=dict(r=R),
    kth=dict(every=3),
    local_cells=dict(r=R, grid=(4, 4)),
    pitome=dict(r=R),
    random=dict(r=R),
    threshold=dict(above=0.3))
every_matching = pytest.mark.parametrize('name', CASES)


def tokens(batch: int = 3, num: int = 17, seed: int = 0):
    """Queries, keys of two heads, and features."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, 2, num, 8), (batch, 2, num, 8), (batch, num, 5))
    ]


def match(name: str, q, k, protected=(0, ), **changes) -> Match:
    """Call a matching with what it names."""
    options = {**CASES[name], **changes, 'protected': protected}
    if name in ('attention_graph', 'complete_graph', 'evit'):
        options['q'] = q
    return getattr(matching, name)(k=k, **options)


@golden('tome')
def test_equals_the_official_code(case):
    assert_golden(case)


@every_matching
def test_masses_and_sums_are_kept(name):
    q, k, x = tokens()
    found = match(name, q, k)
    merged, mass = merge(x, None, found._replace(weight=None))
    assert merged.shape == (3, found.num, 5)
    assert torch.equal(mass.sum(dim=1), torch.full_like(mass[:, 0], 17))
    torch.testing.assert_close((merged * mass).sum(dim=1), x.sum(dim=1))
    assert found.num < 17
    if name not in ('kth', 'threshold', 'local_cells'):
        assert found.num == 17 - R


@every_matching
@pytest.mark.parametrize('protected', [(0, ), (0, 1), (0, -1)])
def test_protected_tokens_stay_alone(name, protected):
    num = 16 + len(protected)
    q, k, x = tokens(num=num)
    places = tuple(sorted(p % num for p in protected))
    # as alike as can be
    k[:, :, places[-1]] = k[:, :, places[-1] // 2 + 1]
    found = match(name, q, k, places)
    merged, mass = merge(x, None, found)
    for old, new in zip(places, found.protected, strict=True):
        assert (found.slot[:, old] == new).all()
        assert (mass[:, new] == 1).all()
        assert torch.equal(merged[:, new], x[:, old])


@every_matching
def test_without_protected_tokens(name):
    if name == 'evit':
        with pytest.raises(ValueError, match='class token'):
            match(name, *tokens()[:2], ())
        return
    q, k, x = tokens(num=16)
    found = match(name, q, k, ())
    assert found.protected == ()
    assert (merge(x, None, found)[1] > 0).all() or name == 'threshold'


@every_matching
def test_images_do_not_meet(name):
    torch.manual_seed(0)
    q, k, _ = tokens()
    if name == 'random':
        return
    found = match(name, q, k)
    alone = match(name, q[1:2], k[1:2])
    assert torch.equal(found.slot[1:2], alone.slot)


@every_matching
def test_equal_tokens_are_ordered_by_position(name):
    """The same on every device; of blank images all are equal."""
    q, k, _ = tokens(num=65)
    k[:] = k[:1, :, :1]
    q[:] = q[:1, :, :1]
    changes = dict(grid=(8, 8)) if name == 'local_cells' else {}
    if name == 'random':
        changes['uniform'] = torch.zeros(3, 65)
    found = match(name, q, k, **changes)
    leaves = merge(torch.zeros(3, 65, 1), None, found)[1]
    assert (found.slot == found.slot[:1]).all()
    # what takes in others is the first that could
    takers = leaves[0].squeeze(-1) > 1
    if name == 'bipartite':
        assert found.slot[0, 2:2 + 2 * R:2].unique().numel() == 1
        assert found.slot[0, 2] == found.slot[0, 1]
    elif name == 'local_cells':
        assert takers.nonzero().tolist() == [[1]]
    elif name in ('complete_graph', 'random'):
        assert found.slot[0, 1:1 + R].eq(found.slot[0, 1 + R]).all()


@every_matching
@pytest.mark.parametrize('num', [10, 65])
def test_rounding_does_not_decide_between_equal_tokens(name, num):
    """Of single precision products it differs by place, batch and threads."""
    threads = torch.get_num_threads()
    side = int((num - 1)**.5)
    changes = dict(grid=(side, side)) if name == 'local_cells' else {}
    if name == 'random':
        changes['uniform'] = torch.zeros(1, num)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        q, k = torch.randn((2, 1, 3, 1, 24), generator=generator)
        exact, found = (
            match(name,
                  q.expand(-1, -1, num, -1).to(dtype),
                  k.expand(-1, -1, num, -1).to(dtype), **changes)
            for dtype in (torch.float64, torch.float32))
        assert torch.equal(exact.slot, found.slot)
        if name == 'random':
            continue
        torch.set_num_threads(3 - min(threads, 2))
        many = match(name, q.repeat(5, 1, num, 1), k.repeat(5, 1, num, 1),
                     **changes)
        torch.set_num_threads(threads)
        assert (many.slot == exact.slot).all()


def test_without_a_class_token_no_patch_says_what_matters():
    q, k, _ = tokens(num=16)
    found = match('complete_graph', q, k, ())
    same = match('complete_graph', q, k, (), importance=torch.zeros(3, 16))
    assert torch.equal(found.slot, same.slot)
    assert (found.weight == 1).all()
    found = match('attention_graph', q, k, ())
    attention = (q @ k.mT * 8**-.5).softmax(-1).mean(dim=(1, 2))
    one = k.mean(dim=1, keepdim=True)
    same = match('complete_graph', q, one, (), importance=attention)
    assert torch.equal(found.slot, same.slot)
    # with one it does
    for name in ('complete_graph', 'attention_graph'):
        found, same = (match(name, q, k, (0, ), guide=g) for g in (None, 0))
        assert torch.equal(found.weight, same.weight)


@pytest.mark.parametrize('name',
                         ['bipartite', 'complete_graph', 'pitome', 'random'])
@pytest.mark.parametrize('num, r', [(1, 5), (2, 5), (3, 5), (9, 50)])
def test_at_most_half_leave(name, num, r):
    q, k, x = tokens(num=num)
    found = match(name, q, k, r=r)
    assert found.num == num - (num - 1) // 2
    assert merge(x, None, found)[0].isfinite().all()


def test_keys_of_zero_are_no_numbers_out_of_order():
    q, k, x = tokens()
    k[:, :, 3:9] = 0
    for name in ('bipartite', 'complete_graph', 'pitome'):
        found = match(name, q, k)
        assert merge(x, None, found)[0].isfinite().all()


def test_random_numbers_say_what_leaves():
    _, k, _ = tokens(1)
    uniform = torch.linspace(1, 0.1, 17)[None]
    found = matching.random(k, R, uniform=uniform)
    # the last ones have the lowest
    assert found.slot[0, :13].tolist() == list(range(13))
    assert (found.slot[0, 13:] < 13).all()


def test_the_threshold_decides_per_image():
    _, k, x = tokens()
    k[1] = k[1, :, :1] + 0.01 * k[1]
    found = matching.threshold(k, 0.9, (0, ))
    merged, mass = merge(x, None, found)
    assert (mass[1] == 0).sum() == 8
    assert (merged[mass.squeeze(-1) == 0] == 0).all()
    assert (mass[0] == 1).all()


def test_cells_are_squares_of_the_grid():
    _, k, x = tokens(1, 21)
    # one cell of equal tokens in a grid of 4 rows and 5 columns
    cell = [1 + 2 * 5 + 2, 1 + 2 * 5 + 3, 1 + 3 * 5 + 2, 1 + 3 * 5 + 3]
    k[:, :, cell] = k[:, :, cell[:1]]
    found = matching.local_cells(k, 5, (0, ), grid=(4, 5))
    assert found.num == 18
    assert (found.slot[0, cell] == found.slot[0, cell[0]]).all()
    assert merge(x, None, found)[1].max() == 4
    with pytest.raises(ValueError, match='4x4 tokens of the grid'):
        matching.local_cells(k, 5, (0, ), grid=(4, 4))


def test_the_complete_graph_pairs_what_parity_would_not():
    """Even and odd tokens of two clusters: alternate ones have no partner."""
    generator = torch.Generator().manual_seed(0)
    k = 0.05 * torch.randn((1, 1, 20, 2), generator=generator)
    k[:, :, ::2, 0] += 1
    k[:, :, 1::2, 1] += 1

    keys = torch.nn.functional.normalize(k[0, 0], dim=-1)
    parity = torch.arange(20) % 2

    def similarity(found: Match, pairs: torch.Tensor) -> float:
        same = found.slot[0][:, None] == found.slot[0][None]
        return float((keys @ keys.T)[same & pairs].mean())

    importance = torch.zeros(1, 20)
    found = matching.complete_graph(k, k, 6, importance=importance)
    assert similarity(found, torch.ones(20, 20).triu(1) > 0) > 0.9
    across = parity[:, None] != parity[None]
    assert similarity(matching.bipartite(k, 6), across) < 0.2


def test_energy_spares_what_is_rare():
    _, k, _ = tokens(1, 17)
    common = torch.arange(1, 13)
    k[:, :, common] = k[:, :, 1:2] + 0.1 * k[:, :, common]
    found = matching.pitome(k, R, (0, ))
    _, mass = merge(torch.zeros(1, 17, 1), None, found)
    rare = found.slot[0, 13:]
    assert (mass[0, rare] == 1).all()


# ---- Merging ----------------------------------------------------------------


def test_the_gradient_is_each_tokens_share():
    q, k, x = tokens()
    x.requires_grad_()
    mass = torch.arange(1., 52.).view(3, 17, 1).double()
    found = match('bipartite', q, k)
    merged, total = merge(x, mass, found)
    (merged * total).sum().backward()
    torch.testing.assert_close(x.grad, mass.expand_as(x))


def test_equal_tokens_come_back():
    q, k, x = tokens()
    found = match('bipartite', q, k)
    x = unmerge(merge(x, None, found)[0], found)
    torch.testing.assert_close(unmerge(merge(x, None, found)[0], found), x)


def test_weights_that_are_normalised_average():
    q, k, x = tokens()
    found = match('complete_graph', q, k)
    ones = torch.ones_like(x)
    mass = torch.arange(1., 52.).view(3, 17, 1).double()
    merged, _ = merge(ones, mass, found)
    torch.testing.assert_close(merged, ones[:, :found.num])
    found = match('complete_graph', q, k, official=True)
    official, _ = merge(ones, mass, found, normalize=False)
    assert not torch.allclose(official, ones[:, :found.num])
    # pairs of equal masses are averages there, too
    singles = match('complete_graph', q, k, r=1, official=True)
    official, _ = merge(ones, None, singles, normalize=False)
    torch.testing.assert_close(official, ones[:, :singles.num])


def test_half_precision_sums_in_single():
    x = torch.ones((1, 4000, 1), dtype=torch.bfloat16)
    found = Match(torch.zeros((1, 4000), dtype=torch.long), 1)
    merged, mass = merge(x, None, found)
    assert merged.dtype == torch.bfloat16 and merged.item() == 1
    assert mass.dtype == torch.float32 and mass.item() == 4000


@pytest.mark.parametrize('protected', [(), (0, )])
def test_the_threshold_leaves_a_single_token_alone(protected):
    found = matching.threshold(torch.ones(2, 1, 1, 4), 0.5, protected)
    assert found.num == 1 and not found.slot.any()


def test_padding_goes_somewhere_even_where_the_first_token_left():
    # without a class token the first may leave, and the second be padding
    _, k, x = tokens(num=6)
    k[1, :, 0] = k[1, :, 3]
    padding = torch.zeros((3, 6), dtype=torch.bool)
    padding[1, 1:3] = True
    found = matching.threshold(k, 0.9, (), padding)
    assert found.slot[1, 0] == found.slot[1, 3]
    assert found.slot.min() == 0 and found.slot.max() < found.num
    merge(x, (~padding).double().unsqueeze(-1), found)


@pytest.mark.parametrize('protected', [(), (0, ), (0, 1), (0, -1)])
def test_padding_leaves_before_what_is_protected(protected):
    """Also where more are to leave than one image has tokens."""
    _, k, x = tokens(num=12)
    protected = tuple(p % 12 for p in protected)
    padding = torch.arange(12) >= torch.tensor([[12], [7], [3]])
    if 11 in protected:
        padding = padding.roll(-1, dims=1)
    left = (~padding).double().unsqueeze(-1)
    found = matching.bipartite(k, 6, protected, padding)
    _, mass = merge(x, left, found)
    for new, old in zip(found.protected, protected, strict=True):
        assert (found.slot[:, old] == new).all()
        assert (mass[:, new] == 1).all()
    # nothing that stays shares a position with another
    for slot in found.slot:
        assert len(slot.unique()) == found.num
    assert torch.equal(mass.sum(dim=1), left.sum(dim=1))
