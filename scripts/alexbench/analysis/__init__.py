"""Analysis of finished runs, from their files only: tables, intervals, comparisons."""
