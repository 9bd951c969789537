"""Draw docs/result.png: real answers about photos of scikit-image, whose names tell nothing.

python -m tools.readme_picture docs/result.png
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage
from PIL import Image

PHOTOS = """astronaut.png camera.png chelsea.png coffee.png motorcycle_left.png motorcycle_right.png
coins.png grass.png brick.png page.png rocket.jpg hubble_deep_field.jpg retina.jpg"""
QUERIES = [
    ["a motorbike in a garage", "a hot drink on a table", "a woman in an orange suit"],
    ["un homme qui prend une photo", "一只猫", "printed text", "a rocket taking off at night"],
]
"""The queries of each row; all hits that `--min-relevance auto` shows are drawn."""


PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]


def copy_photos(folder: Path) -> Path:
    """Copy the photos to a new folder, under names of a camera; returns the folder."""
    folder.mkdir()
    for number, name in enumerate(PHOTOS.split(), 1):
        source = Path(skimage.data_dir) / name
        shutil.copy(source, folder / f"IMG_{number:04}{source.suffix}")
    return folder


def main(output: Path) -> None:
    """Index the photos, search them with the program, and put its contact sheets together."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photos = copy_photos(folder / "photos")
        library = ["--library", str(folder / "library"), "--encoder", "starter"]
        subprocess.run([*PROGRAM, "index", str(photos), *library], check=True)
        rows: list[list[Image.Image]] = []
        for queries in QUERIES:
            sheets: list[Image.Image] = []
            for query in queries:
                path = folder / f"{len(rows)}-{len(sheets)}.png"
                shown = ["--min-relevance", "auto", "--contact-sheet", str(path)]
                subprocess.run([*PROGRAM, "search", query, *shown, *library[:2]], check=True)
                sheets.append(Image.open(path).convert("RGB"))
            rows.append(sheets)
        width = max(sum(sheet.width for sheet in row) for row in rows)
        heights = [max(sheet.height for sheet in row) for row in rows]
        whole = Image.new("RGB", (width, sum(heights)), rows[0][0].getpixel((0, 0)))
        top = 0
        for row, height in zip(rows, heights, strict=True):
            left = 0
            for sheet in row:
                whole.paste(sheet, (left, top + height - sheet.height))
                left += sheet.width
            top += height
        whole.quantize(256).save(output, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
