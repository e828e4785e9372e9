"""Writes the tables of this folder: classical data sets as laboratories would keep them.

python write_tables.py, in this folder; then Rscript fit_tables.R
"""

import random
from pathlib import Path

import openpyxl
import pandas as pd

HERE = Path(__file__).parent
CLASSICAL = HERE.parent / "reference" / "classical"


def classical(name, rows=None, **names):
    frame = pd.read_csv(CLASSICAL / f"{name}.csv", keep_default_na=False)
    return frame.iloc[:rows].rename(columns=names)


def with_holes(frame, column, mark, seed):
    """The frame as text, with a mark in one cell of eight of a column."""
    frame = frame.astype(str)
    rows = random.Random(seed).sample(range(len(frame)), len(frame) // 8)
    frame.loc[rows, column] = mark
    return frame


def text(frame, sep=",", decimal=".", quoted=None):
    return frame.to_csv(index=False, sep=sep, decimal=decimal, quoting=quoted or 0)


def write(name, content, encoding="utf-8"):
    (HERE / name).write_bytes(content.encode(encoding))


ortho = classical("Orthodont")
pixel = classical("Pixel")
oats = classical("Oats")
sleep = classical("sleepstudy", 100)
machines = classical("Machines")
microns = ortho.rename(
    columns={"distance": "Distance (um)", "age": "Age, years", "Subject": "Mouse ID"}
)

write("yield.csv", text(oats))
write("dots.csv", text(ortho.rename(columns={"Subject": "Mouse.ID", "distance": ".len"})))
write("blanks.csv", text(microns))
words = {"Sex": "class", "age": "lambda", "Subject": "None", "distance": "yield"}
write("words.csv", text(ortho.rename(columns=words)))
write("letters.csv", text(ortho.rename(columns={"age": "âge", "Subject": "Sujet é"})))
write("na.csv", text(with_holes(with_holes(ortho, "distance", "NA", 1), "Sex", "NA", 2)))
write("empty.csv", text(with_holes(with_holes(ortho, "age", "", 3), "Subject", "", 4)))
write("points.csv", text(with_holes(ortho, "distance", ".", 5)))
write("errors.csv", text(with_holes(with_holes(ortho, "distance", "#N/A", 6), "age", "NaN", 7)))
write("semicolons.csv", text(microns, ";", ","))
write("semicolons_points.csv", text(microns, ";", "."))
write("semicolons_na.csv", text(with_holes(sleep, "Reaction", "NA", 8), ";"))
write("tabs.tsv", text(microns, "\t"))
write("tabs_commas.txt", text(sleep, "\t", ","))
write("utf16.txt", text(microns, "\t"), "utf-16")
write("utf16_commas.csv", text(sleep, ";", ","), "utf-16-le")
write("mark.csv", text(oats), "utf-8-sig")
write("windows.csv", text(ortho.rename(columns={"Subject": "Sujet é"}), ";", ","), "cp1252")
write("excel_line.csv", "sep=;\r\n" + text(sleep, ";", ",").replace("\n", "\r\n"))
trailing = (line + ",," for line in text(ortho).splitlines())
write("trailing.csv", "\n".join(trailing) + "\n")
write("quoted.csv", text(ortho.astype(str), quoted=1))
numbered = ortho.copy()
numbered.index = range(1, len(ortho) + 1)
write("row_names.csv", numbered.to_csv())
notes = pixel.assign(note=['left, "upper"' if n % 7 == 0 else "" for n in range(len(pixel))])
write("notes.csv", "\r\n\r\n".join(text(notes).splitlines()) + "\r\n")
blanks = text(ortho).replace(",Male,", ", Male ,").replace("distance", " distance ")
write("loose_blanks.csv", blanks)
ids = {one: 12345678901234560 + n for n, one in enumerate(ortho["Subject"].unique())}
write("long_ids.csv", text(ortho.assign(Subject=ortho["Subject"].map(ids))))
truth = ortho.assign(Sex=(ortho["Sex"] == "Male").map({True: "TRUE", False: "FALSE"}))
write("logical.csv", text(truth))
write("weeks.csv", text(ortho.rename(columns={"age": "week"})))
write("times.csv", text(sleep.assign(load=sleep["Days"] * 1.5 + sleep.index % 3)))
write("sides.csv", text(pixel))
write("workers.csv", text(machines))

book = openpyxl.Workbook()
sheet = book.active
sheet.title = "Measurements"
for row in [list(microns), *microns.values.tolist()]:
    sheet.append(row)
book.create_sheet("Notes").append(["made by", "hand"])
book.save(HERE / "sheet.xlsx")
