from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        agreement=['Predictions', 'compare_predictions'],
        finding=['find_postprocess'],
        refusal=['NoPostprocess'],
        running=['FilePredictor', 'made_up'],
        whole=['WholeNetwork']))
