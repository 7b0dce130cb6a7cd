"""Documents to validated JSON: scans, photos and PDFs in, each field with its value, its place and a status out.

A page becomes words with boxes (`readers`, `ocr`), the words become lines (`layout`), each field of a schema gets
candidates that stand on the page (`kinds`, `vocabulary`, `candidates`), the model chooses where the layout leaves a
doubt (`choose`), and what was chosen is checked (`checks`) and handed over with its place (`extraction`).
"""
