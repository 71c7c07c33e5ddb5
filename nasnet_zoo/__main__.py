"""``python -m nasnet_zoo`` is the ``nasnet-zoo`` command."""

import sys

from nasnet_zoo.cli import main

sys.exit(main())
