"""The packages that were tested together, and how to install them."""
# distribution -> (tested version, modules whose import proves that it works)
PACKAGES = {
    'torch': ('2.13.0', 'torch'),
    'torchvision': ('0.28.0', 'torchvision'),
    'numpy': ('1.26.4', 'numpy'),
    'opencv-python-headless': ('4.11.0.86', 'cv2'),
    'setuptools': ('81.0.0', 'pkg_resources'),
    'mmengine': ('0.10.7', 'mmengine.runner'),
    'mmcv': ('2.1.0', 'mmcv.ops'),
    'pycocotools': ('2.0.11', 'pycocotools._mask'),
    'xtcocotools': ('1.14.3', 'xtcocotools._mask'),
    'scipy': ('1.17.1', 'scipy'),
    'shapely': ('2.2.0', 'shapely'),
    'terminaltables': ('3.1.10', 'terminaltables'),
    'munkres': ('3.0.0', 'munkres'),
    'json-tricks': ('3.17.3', 'json_tricks'),
    'einops': ('0.8.2', 'einops'),
    'mat4py': ('0.6.0', 'mat4py'),
    'modelindex': ('0.0.2', 'modelindex'),
    'prettytable': ('3.18.0', 'prettytable'),
    'ftfy': ('6.3.1', 'ftfy'),
    'regex': ('2026.11.15', 'regex'),
    'mmdet': ('3.3.0', 'mmdet.models mmdet.datasets'),
    'mmpose': ('1.3.2', 'mmpose.models mmpose.datasets'),
    'mmpretrain': ('1.2.0', 'mmpretrain.models mmpretrain.datasets'),
    'mmsegmentation': ('1.2.2', 'mmseg.models mmseg.datasets'),
}
# the continuation of some of them: the same module, another distribution.
# The compiled operators of mmcv 2.1.0 serve both and are what was tested.
CONTINUED = {
    'mmengine': ('onedl-mmengine', '0.10.12'),
    'mmcv': ('onedl-mmcv', 'mmcv 2.1.0'),
    'mmdet': ('onedl-mmdetection', '3.5.1'),
    'mmpretrain': ('onedl-mmpretrain', '1.3.6'),
    'mmsegmentation': ('onedl-mmsegmentation', '1.4.2'),
}
# distribution -> tested version
TESTED = {
    **{
        name: tested
        for name, (tested, _) in PACKAGES.items()
    },
    **dict(CONTINUED.values()), 'mmcv-lite': '2.1.0'
}
# what vision-language models of mmpretrain need, optional: the extra
# mmcompress[multimodal], requirements/multimodal.txt
TRANSFORMERS = 'transformers>=4.36,<4.52'
# what every task needs
CORE = ('torch', 'numpy', 'opencv-python-headless', 'setuptools', 'mmengine',
        'mmcv')
# task -> its library, and what that needs beyond the core
TASKS = {
    'detection':
    ('mmdet', 'pycocotools', 'scipy', 'shapely', 'terminaltables'),
    'pose': ('mmpose', 'torchvision', 'xtcocotools', 'munkres', 'json-tricks',
             'scipy'),
    'classification':
    ('mmpretrain', 'torchvision', 'einops', 'mat4py', 'modelindex'),
    'segmentation': ('mmsegmentation', 'prettytable', 'ftfy', 'regex'),
}
LIBRARIES = tuple(needs[0] for needs in TASKS.values())
# all of them bring the module cv2
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python',
          'opencv-contrib-python-headless')
# installed without their requirements, which ask for packages that break
NO_DEPS = ('torchvision', 'mmengine') + LIBRARIES
# other versions of these need not work together
EXACT = ('torch', 'numpy', 'opencv-python-headless', 'xtcocotools') + NO_DEPS
BUILD_MMCV = ('pip install "setuptools<82" wheel ninja psutil && '
              'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-deps '
              '--no-cache-dir --force-reinstall mmcv==2.1.0')
# mmcv without its compiled operators, ours in their place
CHOOSE_LIGHT = 'python -m mmcompress.light_ops.hook'
INSTALL_LIGHT = f'pip install --no-deps mmcv-lite==2.1.0 && {CHOOSE_LIGHT}'
# module -> how to get it, where it isn't simply installed by its name
PROVIDERS = {
    'imgaug':
    'pip install numpy==1.26.4 imageio scikit-image && '
    'pip install --no-deps imaug==0.4.3'
}
