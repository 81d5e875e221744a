#!/opt/chatlab/bin/python
"""Whether the container's Jupyter server answers; asks the address that it wrote down last."""

import json
import os
import sys
from pathlib import Path
from urllib.request import urlopen

#: The engine gives up after five.
SECONDS = 4

files = Path(os.environ["JUPYTER_RUNTIME_DIR"]).glob("jpserver-*.json")
newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
if newest is None:
    sys.exit("No Jupyter server has started yet.")
server = json.loads(newest.read_text(encoding="utf-8"))
address = f"http://127.0.0.1:{server['port']}{server['base_url']}api"
urlopen(address, timeout=SECONDS).close()  # raises when it is refused
