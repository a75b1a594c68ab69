"""Parts of the pages that report.py assembles: facts from tables, figures, pictures, words."""
