"""Presentation of the results: figures, charts and pages, with translations."""
