import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINE = 'import mmcompress.config_prefix as _p; _p.install()'


def run(code):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                          capture_output=True,
                          text=True,
                          check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_prefix_is_known_to_whoever_imports_mmengine(tmp_path):
    before, package, finders, again = run(f"""
import json, sys
{LINE}
{LINE}
before = [m for m in ('torch', 'numpy', 'mmengine', 'rich')
          if m in sys.modules]
finders = [type(f).__name__ for f in sys.meta_path].count('_TableFinder')
from mmengine.config.utils import MODULE2PACKAGE
package = MODULE2PACKAGE['mmcompress']
# a name that somebody gave it stays
MODULE2PACKAGE['mmcompress'] = 'other'
{LINE}
print(json.dumps([before, package, finders, MODULE2PACKAGE['mmcompress']]))
""")
    assert before == []
    assert (package, finders, again) == ('mmcompress', 1, 'other')


def test_make_and_the_wheel_write_the_line():
    for file in ('setup.py', 'tools/dev/setup_venv.py'):
        assert LINE in (ROOT / file).read_text()


def test_a_checkout_has_what_mmengine_looks_for():
    mim = ROOT / 'mmcompress' / '.mim'
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (mim / name).resolve() == ROOT / name
