"""CrossGET: merging, the loss of cross tokens, and whole towers.

``reduce_*``: where two tokens are most similar to each other, their similarity
is equal, and which of them may leave followed the last bit of the machine that
wrote the fixture. All orders of such tokens are tried, and the one that comes
closest is compared; ours is the one with the lower index first.
"""
import itertools

import torch
from golden import Case
from torch import Tensor

from mmcompress.tokens import js_loss, merge
from mmcompress.tokens.matching import (Match, Pairs, choose_pairs,
                                        complete_graph, join_pairs, num_merged,
                                        pair_weights, received_attention,
                                        unit_length)


def run(case: Case) -> dict[str, Tensor] | None:
    """By the keys that a fixture has; ``meta.kind`` is empty."""
    if 'in/image_cross' in case:
        return _js_loss(case)
    if 'in/token_size' in case:
        return _reduce(case)
    if 'in/text' in case:
        from golden.crossget_clip import run_clip
        return run_clip(case)
    if 'in/image' in case:
        from golden.crossget_clip import run_visual
        return run_visual(case)
    return None


def _js_loss(case: Case) -> dict[str, Tensor]:
    image = case['in/image_cross'].clone().requires_grad_()
    text = case['in/text_cross'].clone().requires_grad_()
    loss = js_loss(image, text)
    loss.backward()
    return {
        'out/loss': loss.view(1),
        'grad/image_cross': image.grad,
        'grad/text_cross': text.grad
    }


def _reduce(case: Case) -> dict[str, Tensor]:
    mass, x = case['in/token_size'], case['in/x'].clone().requires_grad_()
    batch, num = x.shape[:2]
    keys = unit_length(case['in/k'])
    fixed = torch.zeros((batch, num), dtype=torch.bool)
    fixed[:, 0] = fixed[:, -1] = True
    if 'in/attn' in case:
        importance = received_attention(case['in/attn'])
    else:
        guide = torch.full((batch, ), num - 1)
        if 'in/token_id' in case:
            guide = case['in/token_id'].argmax(1)
        fixed[torch.arange(batch), guide] = True
        query = unit_length(case['in/q'][torch.arange(batch), guide])
        importance = (keys * query[:, None]).sum(-1)
    r = num_merged(num, int(fixed[0].sum()), case.hyper['r'])
    pairs = [
        min((_permuted(order, keys[b], importance[b], fixed[b], r)
             for order in _orders(keys[b], fixed[b])),
            key=lambda pairs, b=b: _differences(case, pairs, b))
        for b in range(batch)
    ]
    pairs = Pairs(*map(torch.cat, zip(*pairs)))
    match = join_pairs(pairs, importance, official=True)
    _check_call(case, match, pairs)
    y, size = merge(x, mass, match, normalize=False)
    (y * case['in/cotangent']).sum().backward()
    sources, others = pairs.order.split([r, num - r], dim=1)
    found = {
        'out/src_idx':
        sources,
        'out/dst_all_idx':
        others,
        'out/dst_slot':
        (others[:, None] == pairs.partner[:, :, None]).int().argmax(-1),
        'out/weight':
        torch.stack(pair_weights(pairs, importance), dim=-1),
        'out/x':
        y,
        'out/token_size':
        size,
        'grad/x':
        x.grad
    }
    if 'in/token_id' in case:
        ids = case['in/token_id'].unsqueeze(-1)
        found['out/token_id'] = merge(
            ids, mass, match._replace(weight=None))[0].squeeze(-1)
    return found


def _orders(keys: Tensor, fixed: Tensor) -> list[Tensor]:
    """Orders of tokens that decide ties differently; the first is ours."""
    scores = keys @ keys.mT
    closed = fixed[:, None] | fixed | torch.eye(len(keys), dtype=torch.bool)
    best = scores.masked_fill(closed, float('-inf')).argmax(1)
    twins = [(i, int(j)) for i, j in enumerate(best)
             if i < j and best[j] == i and not fixed[i]]
    orders = []
    for swapped in itertools.product((False, True), repeat=len(twins)):
        order = torch.arange(len(keys))
        for (i, j), swap in zip(twins, swapped):
            if swap:
                order[[i, j]] = order[[j, i]]
        orders.append(order)
    return orders


def _permuted(order: Tensor, keys: Tensor, importance: Tensor, fixed: Tensor,
              r: int) -> Pairs:
    """Pairs of one image's tokens, had they stood in another order."""
    pairs = choose_pairs(keys[order][None], importance[order][None],
                         fixed[order][None], r)
    return Pairs(*(order[positions] for positions in pairs))


def _differences(case: Case, pairs: Pairs, image: int) -> int:
    r = pairs.partner.size(1)
    expected = torch.cat(
        [case['out/src_idx'][image], case['out/dst_all_idx'][image]])
    partner = case['out/dst_all_idx'][image][case['out/dst_slot'][image]]
    return int((pairs.order[0] != expected).sum() +
               (pairs.partner[0, :r] != partner).sum())


def _check_call(case: Case, match: Match, pairs: Pairs) -> None:
    """The matching that layers call chooses the same, where no tie decides."""
    num = case['in/x'].size(1)
    options = dict(protected=(0, num - 1), official=True, guide=-1)
    q = k = case['in/k'][:, None]
    if 'in/attn' in case:
        options['importance'] = received_attention(case['in/attn'])
    else:
        q = case['in/q'][:, None]
    if 'in/token_id' in case:
        end = case['in/token_id'].argmax(1)
        options.update(guide=end, also_protected=end)
    called = complete_graph(q, k, case.hyper['r'], **options)
    assert called.num == match.num
    for b, order in enumerate(pairs.order):
        if (called.slot[b] != match.slot[b]).any():
            assert len(
                _orders(
                    unit_length(case['in/k'][b]),
                    torch.zeros(num, dtype=torch.bool))) > 1
