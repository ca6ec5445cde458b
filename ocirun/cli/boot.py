# SPDX-License-Identifier: Apache-2.0
"""What the launcher starts: `pythonX.Y -I -S .../ocirun/cli/boot.py ARGUMENTS`.

Isolated and without `site`: nothing of the caller's directory or environment is imported, and no
time goes into looking for it (V-18).
"""

import gc
import posix
import sys
from _frozen_importlib_external import SourceFileLoader

gc.disable()  # for what is over in a moment; whoever stays longer turns it on again
sys.setdlopenflags(1)  # RTLD_LAZY: of what an extension could call, little is called

HERE = __file__.rpartition("/")[0]


class _Elsewhere:
    """Asked last for a module: now it is worth 10 ms to learn where else the interpreter has any.

    A distribution's cffi beside an ocirun in /usr/local, for example.
    """

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        sys.meta_path.remove(_Elsewhere)
        import site

        site.main()
        return sys.meta_path[-1].find_spec(name, path, target)


# Behind the standard library: the directory that holds ocirun and, as a rule, what it needs.
sys.path.append(HERE.removesuffix("/ocirun/cli"))
sys.meta_path.append(_Elsewhere)
try:
    # Most of what the commands need, in one file: see pack.py.
    packed = type(sys)("ocirun.cli._packed_query")
    SourceFileLoader(packed.__name__, f"{HERE}/_packed_query.py").exec_module(packed)
    packed.Packed.install(HERE)
except FileNotFoundError:
    pass  # a package that was not built

from ocirun.cli import main  # noqa: E402

# All is written and closed; taking the interpreter apart would be a tenth of the time.
posix._exit(main(sys.argv[1:]))
