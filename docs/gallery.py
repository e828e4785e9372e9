"""Runs the commands of docs/gallery.md, and puts the pictures that they write beside the page.

python docs/gallery.py
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PAGE, PICTURES = HERE / "gallery.md", HERE / "figures" / "gallery"
WIDTH = 1000  # pixels of a picture, at most
COLOURS = 96  # of a picture: half of the bytes


def main() -> None:
    """Make all pictures anew."""
    commands = "\n".join(re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.M | re.S))
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        scenario = HERE.parent / "configs" / "how_many_animals.toml"
        (Path(folder) / scenario.name).write_bytes(scenario.read_bytes())
        subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=folder, check=True, env=os.environ | {"PATH": programs},
        )  # fmt: skip
        PICTURES.mkdir(exist_ok=True)
        for path in sorted(Path(folder).glob("*.png")):
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((WIDTH, picture.height))
            picture = picture.quantize(COLOURS, Image.Quantize.FASTOCTREE)  # keeps rare ones
            picture.save(PICTURES / path.name, optimize=True)


if __name__ == "__main__":
    main()
