from .optimizer_step import add_gradient, call_before_step

__all__ = ['add_gradient', 'call_before_step']
