# SPDX-License-Identifier: Apache-2.0
"""What the launcher starts: `pythonX.Y -I -S .../ocirun/cli/boot.py ARGUMENTS`.

Isolated and without `site`: nothing of the caller's directory or environment is imported, and no
time goes into looking for it (V-18).  Python compiles this file each time, so it is short: the rest
is in packed.py.
"""

import gc
import sys
from _frozen_importlib_external import SourceFileLoader

gc.disable()  # for what is over in a moment; whoever stays longer turns it on again

here = __file__.rpartition("/")[0]
first = type(sys)("ocirun.cli._packed_query")
SourceFileLoader(first.__name__, f"{here}/_packed_query.py").exec_module(first)
first.main(here)
