from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        cache_teacher=['CacheTeacherHook'],
        check_data=['CheckDataHook'],
        check_pretrained=['CheckPretrainedHook'],
        exact_resume=['ExactResumeHook'],
        inform_teacher=['InformTeacherHook'],
        loss_gradients=['LossGradientHook'],
        non_finite_loss=['NonFiniteLossHook'],
        plain_checkpoint=['PlainCheckpointHook'],
        safe_checkpoint=['SafeCheckpointHook'],
        standard=['StandardHooks'],
        temperature=['TemperatureHook'],
        upop=['UPopHook']))
