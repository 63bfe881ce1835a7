"""Blocks, widths, and what the networks of leaves share."""
import numpy as np
import pytest
import torch
from tinc.network import TreeSiren
from tinc.plan import MAX_WIDTH, Plan, plan_widths, shares_of, split_depth
from tinc.tree import Tree


def parameters_of(plan):
    return plan.num_weights() + plan.num_biases()


def planned(shape, levels, budget, shares=None, channels=3, depth=3):
    tree = Tree(shape, levels)
    if shares is None:
        shares = shares_of(
            [np.zeros(tree.num_nodes(level)) for level in range(levels)],
            'equal')
    return plan_widths(tree, channels, split_depth(max(depth, levels), levels),
                       shares, budget, parameters_of)


def uneven_network():
    """Of 16 leaves, with widths that are computed in several groups."""
    rng = np.random.default_rng(0)
    tree = Tree((9, 8), 3)
    widths = [rng.integers(1, 11, tree.num_nodes(i)) for i in range(3)]
    torch.manual_seed(0)
    return TreeSiren(Plan(tree, 2, (2, 1, 1), widths), omega_0=5.).double()


# ---- Blocks -----------------------------------------------------------------


@pytest.mark.parametrize('shape, levels', [((16, 16), 1), ((5, 7), 3),
                                           ((13, 4), 3), ((5, 6, 7), 2)])
def test_leaves_join_to_the_signal(shape, levels):
    values = np.random.default_rng(0).normal(size=(*shape, 2))
    tree = Tree(shape, levels)
    blocks, there = tree.split(values)
    assert blocks.shape == (tree.num_leaves, tree.num_positions, 2)
    assert there.sum() == np.prod(shape) and there.any(1).all()
    np.testing.assert_array_equal(tree.join(blocks), values)


def test_a_part_is_inside_of_its_parent():
    tree = Tree((11, 7, 9), 3)
    for level in (1, 2):
        for part, parent in zip(tree.parts(level), tree.parents(level)):
            for mine, its in zip(part, tree.parts(level - 1)[parent]):
                assert its.start <= mine.start < mine.stop <= its.stop


def test_a_position_has_the_same_coordinates_in_each_leaf():
    # the first pixel of a leaf is at -1, the last of the largest at 1
    coordinates = Tree((6, 5), 2).coordinates()
    assert coordinates.shape == (9, 2)
    assert coordinates[0].tolist() == [-1, -1]
    assert coordinates[1].tolist() == [-1, 0]
    assert coordinates[-1].tolist() == [1, 1]
    assert Tree((4, 8), 3).coordinates().tolist() == [[0, -1], [0, 1]]


def test_variances_are_of_blocks():
    values = np.zeros((4, 4, 2))
    values[:2, :2, 0] = [[0, 2], [2, 0]]
    values[2:, 2:] = 7
    root, leaves = Tree((4, 4), 2).variances(values)
    assert root[0] == pytest.approx(values.var((0, 1)).mean())
    assert leaves.tolist() == [0.5, 0, 0, 0]


def test_a_signal_smaller_than_its_parts_is_refused():
    with pytest.raises(ValueError, match='levels=4.*8 parts.*at most 3'):
        Tree((7, 20), 4)
    with pytest.raises(ValueError, match='levels=0'):
        Tree((7, 20), 0)


# ---- Widths -----------------------------------------------------------------


@pytest.mark.parametrize('levels', [1, 2, 3])
@pytest.mark.parametrize('budget', [500, 3000, 20000])
def test_parameters_use_the_budget_and_keep_it(levels, budget):
    used = parameters_of(planned((32, 32), levels, budget))
    assert 0.85 * budget < used <= budget


def test_leaves_of_more_variance_are_wider():
    shares = shares_of([np.array([4.]), np.array([0., 1, 3, 9])], 'variance')
    assert sum(s.sum() for s in shares) == pytest.approx(1)
    plan = planned((32, 32), 2, 4000, shares)
    widths = plan.widths[1]
    assert widths[0] <= 2 and (np.diff(widths) > 0).all()
    # the parameters of leaves, not their widths, are in proportion
    inputs = plan.widths[0][0]
    own = (inputs + 1) * widths + (widths + 1) * 3
    assert own[3] / own[2] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize('allotment', ['variance', 'equal'])
def test_shares_are_equal_without_variance(allotment):
    shares = shares_of([np.zeros(1), np.zeros(4)], allotment)
    np.testing.assert_allclose(np.concatenate(shares), 0.2)


def test_no_node_is_too_wide_for_its_children():
    plan = planned((64, 64), 3, 20000)
    root, middle, leaves = plan.widths
    assert leaves.max() <= 1.5 * middle.min()
    assert middle.max() <= 1.5 * leaves.min() and root[0] <= 1.5 * middle[0]


def test_a_budget_below_widths_of_1_is_refused_with_the_least():
    with pytest.raises(ValueError, match='16 leaves.*at least .*raise bpp'):
        planned((32, 32), 3, 60)


def test_depth_is_shared_among_levels():
    assert split_depth(3, 1) == (3, )
    assert split_depth(5, 3) == (2, 2, 1)
    with pytest.raises(ValueError, match='depth=2.*levels=3'):
        split_depth(2, 3)


def test_an_unknown_allotment_is_refused():
    with pytest.raises(ValueError, match="'size'"):
        shares_of([np.ones(1)], 'size')


def test_widths_stay_within_what_a_file_holds():
    plan = plan_widths(
        Tree((4, 4), 1), 1, (1, ), [np.ones(1)], 10**9, parameters_of)
    assert 0.99 * MAX_WIDTH < plan.widths[0][0] <= MAX_WIDTH


# ---- Networks ---------------------------------------------------------------


def test_one_level_is_a_plain_siren():
    torch.manual_seed(0)
    network = TreeSiren(planned((8, 8), 1, 300))
    x = torch.from_numpy(network.plan.tree.coordinates())
    y = x
    for layer in network.layers[:-1]:
        (a, b), = layer.shapes
        # with omega_0 beside the weights, as the reference has it
        weight, bias = layer.weight.view(a, b) / 30, layer.bias / 30
        y = torch.sin(30 * (y @ weight + bias))
    last = network.layers[-1]
    y = y @ last.weight.view(-1, 3) + last.bias
    torch.testing.assert_close(network(x), y[None], rtol=1e-4, atol=1e-5)


def test_weights_begin_as_those_of_siren():
    torch.manual_seed(0)
    network = TreeSiren(planned((64, 64), 1, 20000), omega_0=30.)
    width = network.plan.widths[0][0]
    bounds = [30 / 2, (6 / width)**.5, (6 / width)**.5, (6 / width)**.5 / 30]
    for layer, bound in zip(network.layers, bounds):
        largest = layer.weight.abs().max().item()
        assert 0.95 * bound < largest <= bound


def test_every_leaf_is_the_mlp_of_its_ancestors():
    network = uneven_network()
    tree = network.plan.tree
    x = torch.from_numpy(tree.coordinates()).double()
    outputs = network(x)
    levels = [0, 0, 1, 2, 2]
    for leaf in range(tree.num_leaves):
        nodes = {2: leaf, 1: tree.parents(2)[leaf], 0: 0}
        y = x
        for i, (layer, level) in enumerate(zip(network.layers, levels)):
            a, b = layer.shapes[nodes[level]]
            weight, bias = layer.spans()[nodes[level]]
            y = y @ layer.weight[weight].view(a, b) + layer.bias[bias]
            y = y if i == len(levels) - 1 else torch.sin(y)
        torch.testing.assert_close(outputs[leaf], y)


def test_a_leaf_trains_its_ancestors_only():
    network = uneven_network()
    tree, leaf = network.plan.tree, 9
    coordinates = torch.from_numpy(tree.coordinates()).double()
    network(coordinates)[leaf].square().sum().backward()
    family = {0: 0, 1: tree.parents(2)[leaf], 2: leaf}
    for layer, level in zip(network.layers, [0, 0, 1, 2, 2]):
        for node, (weight, bias) in enumerate(layer.spans()):
            reached = layer.weight.grad[weight].any().item()
            assert reached == layer.bias.grad[bias].any().item()
            assert reached == (node == family[level])


def test_it_has_the_parameters_that_the_plan_counts():
    network = uneven_network()
    plan = network.plan
    assert sum(p.numel() for p in network.parameters()) == parameters_of(plan)
    assert sum(layer.weight.numel()
               for layer in network.layers) == plan.num_weights()
