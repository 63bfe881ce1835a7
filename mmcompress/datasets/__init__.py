from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        captioned_images=['CaptionedImages'],
        captions=['MiniCaptions'],
        classification=['MiniClassification'],
        detection=['MiniDetection'],
        modelnet40=['ModelNet40'],
        point_clouds=['MiniPointClouds'],
        point_preprocessor=['PointCloudPreprocessor'],
        point_transforms=[
            'DropPoints', 'JitterPoints', 'LoadPoints', 'NormalizePoints',
            'RotatePoints'
        ],
        pose=['MiniPose'],
        rendered=['Rendered', 'ensure_mini_data'],
        segmentation=['MiniSegmentation'],
        tokenizer=['RenderedTokenizer'],
        vocabulary=['ensure_vocabulary']))
