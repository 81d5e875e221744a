"""Print what pyproject.toml asks for, for a layer of the image that outlives the code."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["lab"], sep="\n")
