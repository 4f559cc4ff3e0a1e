"""Print what an installed package requires here, one a line, but for the packages named after it."""

import sys
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

package, *left_out = sys.argv[1:]
for text in requires(package) or ():
    one = Requirement(text)
    if one.name not in left_out and (one.marker is None or one.marker.evaluate({"extra": ""})):
        extras = f"[{','.join(sorted(one.extras))}]" if one.extras else ""
        print(f"{one.name}{extras}{one.specifier}")
