"""Grafana dashboards as code, and the rendered JSON in `json/`.

    python -m dashboards.build           writes the JSON
    python -m dashboards.build --check   says whether the JSON is what the code makes

One file per dashboard says what it shows, `model.py` turns that into Grafana's classic JSON, `reading.py` reads the
JSON back as records, and `lint.py` holds the rules. Nothing of a run is imported by what builds.
"""
