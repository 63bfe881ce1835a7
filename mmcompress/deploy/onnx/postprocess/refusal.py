"""Why the predictions of a model can not be written, in words."""
import torch.nn as nn


class NoPostprocess(ValueError):
    """What follows a network has no form in ONNX that is known here."""


def refuse(name: str, module: object, reason: str) -> NoPostprocess:
    """The error that names a module.

    Args:
        name (str): Of the module in its model.
        module (object): The module, or its part.
        reason (str): What of it is not known.
    """
    return NoPostprocess(
        f'{name} ({type(module).__name__}): its predictions can not be '
        f'exported: {reason}. The network alone can be (without '
        '--postprocess)')


def is_inherited(module: nn.Module, name: str, *owners: str) -> bool:
    """Whether a method is still that of some class.

    What a subclass computes in its own way is unknown.

    Args:
        module (nn.Module): Whose method.
        name (str): Of the method.
        owners (str): Names of classes whose definition is meant.
    """
    for cls in type(module).__mro__:
        if name in vars(cls):
            return cls.__name__ in owners
    return False
