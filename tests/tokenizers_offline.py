"""Configs of vision-language models, with tokenizers that need no network."""
import pytest
from mmengine.config import ConfigDict

from mmcompress.check_env import installed_versions, multimodal_state

STATE = multimodal_state(installed_versions()['transformers'])
needs_transformers = pytest.mark.skipif(
    not STATE.startswith('ready'), reason=f'transformers: {STATE}')


def offline(cfg: ConfigDict) -> ConfigDict:
    """Give a model the vocabulary of the mini captions.

    Args:
        cfg (ConfigDict): Of a model, changed in place, or of a wrapper.

    Returns:
        ConfigDict: The same. A test that needs a tokenizer which is not there
        is skipped.
    """
    inner = cfg
    while 'tokenizer' not in inner:
        if not isinstance(inner.get('model'), dict):
            return cfg
        inner = inner['model']
    if not STATE.startswith('ready'):
        pytest.skip(f'transformers: {STATE}')
    # mmpretrain's models know it then, not only ours
    import mmcompress.datasets.tokenizer  # noqa: F401
    own = dict(inner['tokenizer'])
    if own['type'] != 'mmcompress.RenderedTokenizer':
        del own['name_or_path']
        inner['tokenizer'] = ConfigDict(
            type='mmcompress.RenderedTokenizer',
            tokenizer=own,
            vocabulary='clip' if own['type'] == 'AutoTokenizer' else 'bert')
    return cfg
