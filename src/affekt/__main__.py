"""The program `affekt`, also as `python -m affekt`.

It imports nothing before it can answer Ctrl-C, since most of the start of a program is imports.
"""

import sys

INTERRUPTED = 130  # as shells count: 128 + SIGINT


def run() -> int:
    """Run the command line; Ctrl-C during the start is answered in one line, as later.

    Returns:
        The exit code.
    """
    try:
        from affekt.cli import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("affekt: interrupted\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
