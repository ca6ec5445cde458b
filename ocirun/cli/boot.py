# SPDX-License-Identifier: Apache-2.0
"""What the launcher starts: `pythonX.Y -I -S .../ocirun/cli/boot.py ARGUMENTS`.

Isolated and without `site`: nothing of the caller's directory or environment is imported, and no time
goes into looking for it (V-18).
"""

import gc
import sys

import posix

gc.disable()  # for what is over in a moment; whoever stays longer turns it on again


class _Elsewhere:
    """Asked last for a module: only now is it worth 10 ms to learn where else this interpreter has any.

    A distribution's cffi, or a virtual environment that sees the packages of the system.
    """

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        sys.meta_path.remove(_Elsewhere)
        import site

        site.main()
        return sys.meta_path[-1].find_spec(name, path, target)


sys.meta_path.append(_Elsewhere)
# Behind the standard library's directories: the one that holds ocirun and, as a rule, what it needs.
sys.path.append(__file__.rsplit("/", 3)[0])

from ocirun.cli import main

# Everything is written and closed; to take the interpreter apart would be a tenth of the time.
posix._exit(main(sys.argv[1:]))
