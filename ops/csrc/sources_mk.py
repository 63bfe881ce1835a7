"""Print ``sources.json`` as variables and rules for the Makefile."""
import json
import sys
from pathlib import Path


def main(machine: str) -> None:
    build = json.loads(Path(__file__).with_name('sources.json').read_text())
    print('FLAGS :=', *build['flags'])
    for source in build['sources']:
        is_ours = machine in source.get('machine', [machine])
        if source.get('needs_torch') or not is_ours:
            continue
        target = '$(BUILD)/' + source['file'].replace('.cpp', '.o')
        print('OBJECTS +=', target)
        print(f'{target}: private FLAGS +=', *source.get('flags', []))


if __name__ == '__main__':
    main(sys.argv[1])
