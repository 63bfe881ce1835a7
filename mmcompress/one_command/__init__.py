"""From a user's model to a smaller one, by one call."""
from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(command=['compress'], options=['BITS', 'Options'], plan=['Plan']))
