"""To a hub and from it, by ``huggingface_hub``; a folder does as well.

The environment variable ``HF_ENDPOINT`` names another hub; the library reads
it once, when it is imported.
"""
import tempfile
from pathlib import Path

import torch.nn as nn

from .folder import CONFIG, load_folder, save_pretrained
from .source import RECORD
from .weights import SAFETENSORS, TORCH, need

# nothing else of a repository is looked at
_FILES = [CONFIG, SAFETENSORS, TORCH, RECORD]


def push_to_hub(run: str | Path,
                repo_id: str,
                licence: str,
                config: str | None = None,
                checkpoint: str | None = None,
                form: str | None = None,
                private: bool = False,
                token: str | None = None,
                message: str | None = None) -> str:
    """Share what a run made.

    The model is loaded from what is to be shared before anything is sent.

    Args:
        run (str | Path): Folder of ``compress.py`` or of a training.
        repo_id (str): ``'owner/name'``; it is created if it isn't there.
        licence (str): Of the weights, as the hub names it, ``apache-2.0``.
        config (str | None): The config, if the run has several.
        checkpoint (str | None): The weights, likewise.
        form (str | None): Which form of the record, as ``'packed'``; the
            last one with weights by default.
        private (bool): Whether only its owner sees a new repository.
        token (str | None): By default that of ``huggingface-cli login``.
        message (str | None): Of the commit.

    Returns:
        str: URL of the commit.

    Raises:
        ImportError: Without ``huggingface_hub``.
        ValueError: See :func:`.save_pretrained`; or if the name is none.
    """
    hub = need('huggingface_hub')
    if Path(repo_id).is_dir() or repo_id.count('/') != 1:
        raise ValueError(f"repo_id must be 'owner/name', got {repo_id!r}; "
                         'save_pretrained writes to a folder')
    api = hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as temp:
        folder = save_pretrained(run, temp, licence, config, checkpoint, form,
                                 repo_id)
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=str(folder),
            # the weights of before may have had the other format
            delete_patterns=[SAFETENSORS, TORCH, RECORD],
            commit_message=message or 'Share a model of mmcompress')
    return str(done.commit_url)


def from_pretrained(name: str | Path,
                    device: str = 'cpu',
                    revision: str | None = None,
                    token: str | None = None) -> nn.Module:
    """Load a shared model, ready to predict.

    Args:
        name (str | Path): ``'owner/name'`` on the hub, or a folder.
        device (str): Where it shall be.
        revision (str | None): Branch, tag or commit on the hub.
        token (str | None): By default that of ``huggingface-cli login``.

    Returns:
        nn.Module: See :func:`.load_folder`.

    Raises:
        FileNotFoundError: If the folder or the repository is no such model.
        ImportError: Without a library that is needed.
        RuntimeError: If the weights are damaged or of another model.
        ValueError: If the config is more than data.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f'{name} is a folder, which has no revision '
                             f'{revision!r}')
        return load_folder(name, device)
    if str(name).count('/') != 1 or str(name).startswith(('/', '.', '~')):
        raise FileNotFoundError(f"{name} is neither a folder nor 'owner/name' "
                                'of a hub')
    folder = need('huggingface_hub').snapshot_download(
        str(name), revision=revision, token=token, allow_patterns=_FILES)
    return load_folder(folder, device)
