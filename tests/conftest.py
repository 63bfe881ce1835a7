"""Before any test: torchvision and mmengine as the package repairs them."""
import mmcompress.compat  # noqa: F401
