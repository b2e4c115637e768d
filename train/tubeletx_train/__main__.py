"""`python -m tubeletx_train` is `tubeletx-train`."""

import sys

from tubeletx_train.cli import main

sys.exit(main())
