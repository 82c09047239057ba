"""Certified accuracy by radius, from tables of results: `python examples/curve.py examples/digits.tsv [MORE.tsv ...]`.

A table is what `certify dataset` writes, or any tab-separated file with the field's columns (idx, label, predict,
radius, correct, time). examples/digits.tsv: the first 40 held-out digits, 2,000 samples each.
"""

import sys
from pathlib import Path

from certify.service.research.curves import curves_of_tables, markdown
from certify.service.research.tables import read_table

curves = curves_of_tables([read_table(Path(name)) for name in sys.argv[1:]])
print(markdown(curves, radii=(0.0, 0.25, 0.5)))
