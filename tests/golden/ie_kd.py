"""IE-KD: the autoencoder of features, and the loss of a divided student."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.distill.losses import IEKDLoss
from mmcompress.distill.losses.ie_kd import Autoencoder, Coder, mean_distance


def _below(params: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Parameters of a module, without its name in front."""
    return {
        key.removeprefix(f'{name}.'): value
        for key, value in params.items() if key.startswith(f'{name}.')
    }


def _coder(params: dict[str, Tensor]) -> Coder:
    """A coder with the weights of a fixture."""
    maps = [value for value in params.values() if value.dim() == 4]
    coder = Coder(maps[0].shape[1], maps[-1].shape[0],
                  any('running_mean' in key for key in params)).double()
    coder.load_state_dict(params, strict=False)
    return coder


def _gradients(coder: Coder, name: str) -> dict[str, Tensor]:
    return {f'grad/{name}.{k}': p.grad for k, p in coder.named_parameters()}


def _autoencode(case: Case) -> dict[str, Tensor]:
    """Factor, reconstruction, loss and gradients of the first stage."""
    feature = case['in/feat'].clone().requires_grad_()
    autoencoder = Autoencoder(1, 1)
    for name in ('encoder', 'decoder'):
        coder = _coder(_below(case.group('param'), name))
        getattr(autoencoder, name)[0] = coder
    (factor, ), (rebuilt, ) = autoencoder([feature])
    p = case.hyper.get('norm', case.hyper.get('p', 1))
    loss = mean_distance(rebuilt, feature, p)
    loss.backward()
    return {
        'out/factor': factor,
        'out/rec': rebuilt,
        'out/loss_rec': loss,
        'grad/feat': feature.grad,
        **_gradients(autoencoder.encoder[0], 'encoder'),
        **_gradients(autoencoder.decoder[0], 'decoder')
    }


def _divide(case: Case) -> dict[str, Tensor]:
    """Factors, losses and gradients of the second stage."""
    student = case['in/feat_student'].clone().requires_grad_()
    names = ('inh_loss', 'exp_loss', 'p', 'inh_weight', 'exp_weight')
    loss = IEKDLoss(
        student.shape[1],
        case['out/factor_teacher'].shape[1],
        num_levels=1,
        **{k: case.hyper[k]
           for k in names if k in case.hyper})
    coders = {}
    for name in ('embed_inh', 'embed_exp', 'embed_teacher'):
        params = _below(case.group('param'), f'{name}.encoder')
        coders[name] = _coder(params)
    loss.embed_inh[0] = coders['embed_inh']
    loss.embed_exp[0] = coders['embed_exp']
    loss.inh_index = case['in/inh_index']
    loss.exp_index = case['in/exp_index']
    with torch.no_grad():
        teacher = coders['embed_teacher'].eval()(case['in/feat_teacher'])
    total = sum(
        term for terms in loss([student], [teacher]).values()
        for term in terms)
    total.backward()
    loss.inh_weight = loss.exp_weight = 1
    terms = loss([student], [teacher])
    result = {f'out/{name}': level for name, (level, ) in terms.items()}
    for name in ('embed_inh', 'embed_exp'):
        result.update(_gradients(coders[name], f'{name}.encoder'))
    return {
        **result, 'out/loss': total,
        'out/factor_inh': loss.inherited([student])[0],
        'out/factor_exp': loss.explored([student])[0],
        'out/factor_teacher': teacher,
        'grad/feat_student': student.grad
    }


def run(case: Case) -> dict[str, Tensor]:
    """Compute what a fixture of either stage stores."""
    return _autoencode(case) if 'in/feat' in case else _divide(case)
