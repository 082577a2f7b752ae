import sys

from dailyread.cli import main

sys.exit(main())
