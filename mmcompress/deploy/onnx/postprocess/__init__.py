from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        finding=['find_postprocess'],
        refusal=['NoPostprocess'],
        whole=['WholeNetwork']))
