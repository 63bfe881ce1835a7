"""Share models on a hub, and use shared ones."""
from .folder import load_folder, save_pretrained
from .remote import from_pretrained, push_to_hub

__all__ = ['from_pretrained', 'load_folder', 'push_to_hub', 'save_pretrained']
