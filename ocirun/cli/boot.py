# SPDX-License-Identifier: Apache-2.0
"""What the launcher starts: `pythonX.Y -I -S .../ocirun/cli/boot.py ARGUMENTS`.

Isolated and without `site`, so nothing of the caller's directory or environment is imported and no time goes into
looking for it (V-18).  All that is added is the directory which holds ocirun and its dependencies, behind the standard
library's.
"""

import sys

sys.path.append(__file__.rsplit("/", 3)[0])

from ocirun.cli import main  # noqa: E402  # after the path is set

sys.exit(main(sys.argv[1:]))
