"""Every command of the README and the docs, one a line: python -m tests.docs.commands [--unique]"""

import argparse
import shlex
import sys

from tests.docs.judge import page_commands
from tests.docs.pages import all_pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unique", action="store_true", help="each command once, without its place")
    is_unique = parser.parse_args().unique
    lines = []
    for page in all_pages():
        for where, command in page_commands(page):
            assigned = [f"{name}={shlex.quote(value)}" for name, value in command.assigned]
            words = " ".join([*assigned, *map(shlex.quote, command.words)])
            lines.append(words if is_unique else f"{where}: {words}")
    sys.stdout.writelines(f"{line}\n" for line in (dict.fromkeys(lines) if is_unique else lines))


if __name__ == "__main__":
    main()
